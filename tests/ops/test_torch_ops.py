"""Plain ops against the textbook, on scattered pages, with windows, in both KV precisions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from quantchat.ops.batch import Batch, Span
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.rope import RopeTable
from quantchat.ops.torch_ops import TorchOps
from quantchat.spec import DecoderSpec, RopeSpec

SPEC = DecoderSpec(
    architecture="llama",
    layers=1,
    hidden=24,
    heads=6,
    kv_heads=2,
    head_dim=8,
    intermediate=32,
    vocab=10,
    context=64,
    norm_eps=1e-5,
    rope=RopeSpec(theta=100.0, rotary_dim=8),
    activation="silu",
    attention_scale=8**-0.5,
)
PAGE = 4


def table(rotary: int = 8) -> RopeTable:
    angles = torch.outer(torch.arange(64.0), 100.0 ** (-torch.arange(0, rotary, 2) / rotary))
    return RopeTable(angles.cos(), angles.sin())


def turned(x: torch.Tensor, position: int, rotary: int = 8) -> torch.Tensor:
    out = x.clone()
    for i in range(0, rotary, 2):
        angle = position * 100.0 ** (-i / rotary)
        c, s = math.cos(angle), math.sin(angle)
        out[..., i] = x[..., i] * c - x[..., i + 1] * s
        out[..., i + 1] = x[..., i] * s + x[..., i + 1] * c
    return out


@pytest.mark.parametrize("rotary", [8, 4, 2])
def test_rope_turns_adjacent_pairs(rotary: int) -> None:
    x = torch.randn(3, 2, 8)
    positions = torch.tensor([0, 5, 63], dtype=torch.int32)
    got = table(rotary).turn(x, positions)
    wanted = torch.stack([turned(x[i], int(p), rotary) for i, p in enumerate(positions)])
    assert torch.allclose(got, wanted, atol=1e-5)


def run(
    pages: tuple[int, ...], chunks: list[int], window: int, precision: str, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of all rows, computed in chunks through the cache, and the textbook's."""
    torch.manual_seed(0)
    ops = TorchOps(SPEC, device=torch.device("cpu"), dtype=dtype)
    pool = KvPool(
        SPEC,
        pages=12,
        page_tokens=PAGE,
        precision=precision,
        dtype=dtype,
        device=torch.device("cpu"),
    )  # type: ignore[arg-type]
    total = sum(chunks)
    qkv = torch.randn(total, 10 * 8).to(dtype)
    outs, start = [], 0
    for count in chunks:
        end = start + count
        position = torch.arange(start, end)
        slots = torch.tensor([pages[p // PAGE] * PAGE + p % PAGE for p in range(start, end)])
        batch = Batch(
            ids=torch.zeros(count, dtype=torch.int64),
            positions=position.to(torch.int32),
            slots=slots,
            decode=count == 1,
            spans=(Span(0, count, end, pages[: -(-end // PAGE)]),),
        )
        outs.append(
            ops.attend(qkv[start:end], batch, pool, pool.layers[0], table(), None, None, window)
        )
        start = end
    heads = qkv.float().view(total, 10, 8)
    q = torch.stack([turned(heads[i, :6], i) for i in range(total)])
    k = torch.stack([turned(heads[i, 6:8], i) for i in range(total)])
    wanted = torch.zeros(total, 6, 8)
    for i in range(total):
        first = max(0, i - window + 1) if window else 0
        for h in range(6):
            scores = (k[first : i + 1, h // 3] @ q[i, h]) * SPEC.attention_scale
            wanted[i, h] = scores.softmax(0) @ heads[first : i + 1, 8 + h // 3]
    return torch.cat(outs).float(), wanted.flatten(1)


@pytest.mark.parametrize("pages", [(1, 2, 3, 4, 5), (7, 2, 9, 1, 5)], ids=["one run", "scattered"])
@pytest.mark.parametrize("chunks", [[17], [5, 1, 1, 10], [1] * 17, [4, 4, 9]])
@pytest.mark.parametrize("window", [0, 1, 3, 6, 40])
def test_attention_is_the_textbook_s(
    pages: tuple[int, ...], chunks: list[int], window: int
) -> None:
    got, wanted = run(pages, chunks, window, "16bit", torch.float32)
    assert torch.allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("pages", [(1, 2, 3, 4, 5), (7, 2, 9, 1, 5)], ids=["one run", "scattered"])
@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [
        ("int8", 1e-5, 0.02),
        ("fp8", 1e-3, 0.05),
        ("int4", 1e-2, 0.2),
        ("int4r", 1e-2, 0.2),
        ("k8v4", 1e-2, 0.15),
    ],
)
def test_rounded_caches_are_close(
    pages: tuple[int, ...], precision: str, least: float, most: float
) -> None:
    got, wanted = run(pages, [9, 1, 7], 0, precision, torch.float32)
    error = float((got - wanted).norm() / wanted.norm())
    assert least < error < most


def test_rotation_of_queries_and_keys_leaves_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """What int4r does before rounding changes nothing: unrounded pages give the same attention."""
    from quantchat.ops import torch_ops

    plain, wanted = run((7, 2, 9, 1, 5), [9, 1, 7], 0, "16bit", torch.float32)
    monkeypatch.setattr(torch_ops, "KV_ROTATED", frozenset({"16bit"}))
    rotated, _ = run((7, 2, 9, 1, 5), [9, 1, 7], 0, "16bit", torch.float32)
    assert torch.allclose(rotated, wanted, atol=1e-5)
    assert not torch.equal(rotated, plain), "heads were not rotated"


def test_several_sequences_in_one_step() -> None:
    ops = TorchOps(SPEC, device=torch.device("cpu"), dtype=torch.float32)
    pool = KvPool(
        SPEC,
        pages=12,
        page_tokens=PAGE,
        precision="16bit",
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    spans = (Span(0, 1, 3, (4,)), Span(1, 1, 6, (2, 9)))
    for span in spans:
        for p in range(span.length - 1):
            slot = span.pages[p // PAGE] * PAGE + p % PAGE
            pool.layers[0].k.flatten(0, 1)[slot] = torch.randn(2, 8)
            pool.layers[0].v.flatten(0, 1)[slot] = torch.randn(2, 8)
    qkv = torch.randn(2, 80)
    batch = Batch(
        ids=torch.zeros(2, dtype=torch.int64),
        positions=torch.tensor([2, 5], dtype=torch.int32),
        slots=torch.tensor([4 * PAGE + 2, 9 * PAGE + 1]),
        decode=True,
        spans=spans,
    )
    together = ops.attend(qkv, batch, pool, pool.layers[0], table(), None, None, 0)
    for row, span in enumerate(spans):
        here = slice(row, row + 1)
        one = replace(
            batch,
            positions=batch.positions[here],
            slots=batch.slots[here],
            spans=(replace(span, start=0),),
        )
        alone = ops.attend(qkv[here], one, pool, pool.layers[0], table(), None, None, 0)
        assert torch.allclose(together[row], alone[0], atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_rms_norm_of_one_row_is_that_of_many(rows: int) -> None:
    ops = TorchOps(SPEC, device=torch.device("cpu"), dtype=torch.float32)
    x, weight = torch.randn(rows, 24), torch.rand(24)
    wanted = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight
    assert torch.allclose(ops.rms_norm(x, weight), wanted, atol=1e-6)
    residual = torch.randn(rows, 24)
    normed, total = ops.add_rms_norm(x, residual.clone(), weight)
    assert torch.allclose(total, x + residual)
    assert torch.allclose(normed, ops.rms_norm(x + residual, weight), atol=1e-6)
