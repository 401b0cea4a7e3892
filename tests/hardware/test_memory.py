"""Byte accounting against sums by hand and published figures."""

from __future__ import annotations

import dataclasses

import pytest

from quantchat.hardware.linears import group_size_of, linears_of
from quantchat.hardware.memory import (
    decode_read_bytes,
    fit,
    kv_bytes_per_token,
    load_peak_bytes,
    table_bytes,
    weight_bytes,
    workspace_bytes,
)
from quantchat.quant.registry import SCHEMES
from quantchat.shapes import SHAPES

GIB = 2**30
LLAMA = SHAPES["llama-3.1-8b"]
STARTER = SHAPES["smollm2-135m"]


@pytest.mark.parametrize("name", list(SHAPES))
def test_linears_add_up_to_the_spec(name: str) -> None:
    spec = SHAPES[name]
    total = sum(linear.count * linear.weights for linear in linears_of(spec))
    assert total == spec.linear_parameters


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("llama-3.1-8b", 8.03),
        ("llama-3.2-1b", 1.236),
        ("llama-2-7b", 6.738),
        ("mistral-7b", 7.248),
        ("qwen2.5-7b", 7.615),
        ("qwen3-8b", 8.190),
        ("smollm2-135m", 0.1345),
    ],
)
def test_shapes_have_the_published_sizes(name: str, billions: float) -> None:
    assert SHAPES[name].parameters / 1e9 == pytest.approx(billions, rel=1e-3)


def test_dense_weights_are_two_bytes_each() -> None:
    assert weight_bytes(LLAMA, SCHEMES["fp16"], 0) == LLAMA.parameters * 2
    assert weight_bytes(STARTER, SCHEMES["fp16"], 0) == STARTER.parameters * 2
    assert weight_bytes(STARTER, SCHEMES["fp16"], 0, dense_bytes=4) == STARTER.parameters * 4


def test_int8_has_a_scale_per_row_and_a_head_of_its_own() -> None:
    layer_rows = (576 + 2 * 192) + 576 + 2 * 1536 + 576
    linears = STARTER.linear_parameters + 30 * layer_rows * 4
    head = 49152 * 576 + 49152 * 4
    assert weight_bytes(STARTER, SCHEMES["int8"], 0) == linears + head
    untied = dataclasses.replace(STARTER, tied_head=False)
    assert weight_bytes(untied, SCHEMES["int8"], 0) == linears + head + 49152 * 576 * 2


@pytest.mark.parametrize("group", [32, 64])
def test_int4_has_four_bytes_per_group(group: int) -> None:
    linears = STARTER.linear_parameters // 2 + STARTER.linear_parameters // group * 4
    head = 49152 * 576 + 49152 * 4
    assert weight_bytes(STARTER, SCHEMES["int4"], group) == linears + head
    dense_head = weight_bytes(STARTER, SCHEMES["int4"], group, head="dense")
    assert dense_head == linears + 49152 * 576 * 2


def test_stored_weights_keep_the_files_bytes() -> None:
    stored = SCHEMES["stored"]
    assert weight_bytes(STARTER, stored, 0, stored_bytes=96_000_000) == 96_000_000
    untied = dataclasses.replace(STARTER, tied_head=False)
    assert weight_bytes(untied, stored, 0, stored_bytes=96_000_000) == 96_000_000 + 49152 * 576 * 2


def test_a_decoded_token_reads_all_but_the_table() -> None:
    assert decode_read_bytes(LLAMA, SCHEMES["fp16"], 0) / 1e9 == pytest.approx(15.01, abs=0.01)
    assert decode_read_bytes(LLAMA, SCHEMES["int8"], 0) / 1e9 == pytest.approx(7.51, abs=0.01)
    assert decode_read_bytes(STARTER, SCHEMES["fp16"], 0) == STARTER.parameters * 2
    int4 = LLAMA.linear_parameters * (0.5 + 4 / 128) + LLAMA.embedding_parameters + 128256 * 4
    assert decode_read_bytes(LLAMA, SCHEMES["int4"], 128) == int4


def test_a_rotated_model_whose_head_was_its_table_keeps_both() -> None:
    qoq = SCHEMES["qoq"]
    table = 49152 * (576 + 4)
    held, read = weight_bytes(STARTER, qoq, 64), decode_read_bytes(STARTER, qoq, 64)
    assert held - read == table_bytes(STARTER, qoq) == table
    untied = dataclasses.replace(STARTER, tied_head=False)
    assert decode_read_bytes(untied, qoq, 64) == read
    assert weight_bytes(untied, qoq, 64) == read + 2 * 49152 * 576


@pytest.mark.parametrize(
    ("name", "wide", "narrow"),
    [
        ("llama-3.1-8b", 131072, 65536 + 2 * 32 * 8 * 4),
        ("llama-2-7b", 524288, 262144 + 2 * 32 * 32 * 4),
        ("smollm2-135m", 23040, 11520 + 2 * 30 * 3 * 4),
    ],
)
def test_kv_per_token(name: str, wide: int, narrow: int) -> None:
    assert kv_bytes_per_token(SHAPES[name], "16bit") == wide
    assert kv_bytes_per_token(SHAPES[name], "int8") == narrow
    vectors = (narrow - wide // 2) // 4
    assert kv_bytes_per_token(SHAPES[name], "fp8") == wide // 2 + 2 * vectors
    assert kv_bytes_per_token(SHAPES[name], "int4") == wide // 4 + 4 * vectors
    assert kv_bytes_per_token(SHAPES[name], "int4r") == wide // 4 + 4 * vectors
    assert kv_bytes_per_token(SHAPES[name], "k8v4") == wide * 3 // 8 + 4 * vectors


def test_groups() -> None:
    assert group_size_of(LLAMA, SCHEMES["int4"]) == 128
    assert group_size_of(STARTER, SCHEMES["int4"]) == 64
    assert group_size_of(dataclasses.replace(STARTER, intermediate=1000), SCHEMES["int4"]) == 0
    assert group_size_of(LLAMA, SCHEMES["int8"]) == 0


def test_workspace_grows_with_chunk_and_context() -> None:
    scheme = SCHEMES["int4"]
    small = workspace_bytes(LLAMA, scheme, chunk_tokens=16, context_tokens=1024, on_gpu=True)
    chunk = workspace_bytes(LLAMA, scheme, chunk_tokens=2048, context_tokens=1024, on_gpu=True)
    context = workspace_bytes(LLAMA, scheme, chunk_tokens=16, context_tokens=65536, on_gpu=True)
    assert small < context < chunk
    assert small > GIB // 2


def test_a_token_s_workspace_has_room_for_all_its_experts() -> None:
    spec = SHAPES["qwen3-30b-a3b"]
    assert spec.experts is not None
    taken = spec.experts.active * (spec.experts.intermediate + spec.hidden)
    few, many = (
        workspace_bytes(spec, SCHEMES["int4"], chunk_tokens=count, context_tokens=4096, on_gpu=True)
        for count in (1, 1001)
    )
    beside = 1000 * (taken * 2 + 4096 * 2)
    assert beside < many - few < 2 * beside


def test_loading_needs_more_than_the_weights_but_not_a_second_model() -> None:
    for name in ("fp16", "int8", "int4"):
        scheme = SCHEMES[name]
        held = weight_bytes(LLAMA, scheme, group_size_of(LLAMA, scheme))
        peak = load_peak_bytes(LLAMA, scheme, held, on_gpu=True)
        assert held < peak < held + 3 * GIB


@pytest.mark.parametrize("free_gib", [6.0, 10.5, 12.0, 24.0, 80.0])
def test_the_longest_context_is_the_last_that_fits(free_gib: float) -> None:
    def at(context: int) -> str:
        return fit(
            LLAMA,
            SCHEMES["int8"],
            0,
            "int8",
            context_tokens=context,
            chunk_tokens=2048,
            free_bytes=int(free_gib * GIB),
            total_bytes=int(free_gib * GIB),
            on_gpu=True,
        ).verdict

    longest = fit(
        LLAMA,
        SCHEMES["int8"],
        0,
        "int8",
        context_tokens=1,
        chunk_tokens=2048,
        free_bytes=int(free_gib * GIB),
        total_bytes=int(free_gib * GIB),
        on_gpu=True,
    ).longest_context_tokens
    if free_gib < 8:
        assert longest == 0
        assert at(1) == "too_large"
        return
    assert 0 < longest <= LLAMA.context
    assert at(longest) != "too_large"
    if longest < LLAMA.context:
        assert at(longest + 1) == "too_large"


def test_a_short_context_needs_no_more_than_a_long_one() -> None:
    needed = [
        fit(
            LLAMA,
            SCHEMES["fp16"],
            0,
            "16bit",
            context_tokens=context,
            chunk_tokens=2048,
            free_bytes=80 * GIB,
            total_bytes=80 * GIB,
            on_gpu=True,
        ).needed_bytes
        for context in (1, 512, 2048, 2049, 16384, 131072)
    ]
    assert needed == sorted(needed)


def test_copies_are_counted() -> None:
    one, two = (
        fit(
            STARTER,
            SCHEMES["int8"],
            0,
            "16bit",
            context_tokens=2048,
            chunk_tokens=256,
            free_bytes=8 * GIB,
            total_bytes=8 * GIB,
            on_gpu=False,
            copy_dtype_bytes=size,
        )
        for size in (0, 4)
    )
    assert two.copy_bytes == STARTER.linear_parameters * 4
    assert two.needed_bytes - one.needed_bytes == two.copy_bytes
