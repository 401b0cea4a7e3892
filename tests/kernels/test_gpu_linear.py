"""Tensor-core linears on a real card against their reference, on real and awkward shapes."""

from __future__ import annotations

import multiprocessing
import os

import pytest

pytest.importorskip("triton")

import torch
from linear_cases import (
    FORMS,
    TABLE_FORMS,
    Chain,
    LinearCase,
    compile_job,
    linear_cases,
    run,
    stored,
)
from nearness import relative
from quantchat.kernels.linear import reference
from quantchat.kernels.linear.dequantize import dequantize, expand
from quantchat.kernels.linear.launch import LOWEST_SM, Chosen, NextNorm, RowWeight, linear
from quantchat.kernels.linear.many import linear_many
from quantchat.kernels.linear.pack import Int4Tiles
from quantchat.kernels.linear.table_dequantize import dequantize_table
from quantchat.kernels.linear.table_pack import TableTiles
from quantchat.kernels.linear.wide import SM as WIDE_SM
from quantchat.kernels.linear.wide import linear_wide, takes_wide
from quantchat.kernels.linear.wide_plan import plan_of

from quantchat.ops.expert_bank import stacked

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

CASES = linear_cases()
CHAIN_ROWS = (1, 5)
CHAINS = tuple((*form, rows) for form in FORMS for rows in CHAIN_ROWS)
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 6e-3}


@pytest.fixture(scope="module")
def compiled() -> None:
    """All binaries of cases and chains at once, from as many processes as there are processors."""
    major, minor = torch.cuda.get_device_capability()
    if 10 * major + minor < LOWEST_SM:
        pytest.skip(f"tensor-core linears begin at SM {LOWEST_SM}")
    workers = min(14, os.cpu_count() or 1)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        failures = [said for said in pool.map(compile_job, (*CHAINS, *CASES), chunksize=2) if said]
    assert not failures, "\n".join(failures[:5])


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_linear(case: LinearCase) -> None:
    outcome = run(case)
    assert outcome.made.dtype == (torch.float32 if case.wide else case.dtype)
    assert relative(outcome.made, outcome.truth) < TOLERANCE[case.dtype]
    if outcome.following is not None:
        gamma, h = outcome.following.gamma, outcome.following.h
        torch.testing.assert_close(
            h, reference.scaled_by_gamma(outcome.made, gamma), rtol=1e-6, atol=0
        )
        squares = reference.squares_of(outcome.made)
        torch.testing.assert_close(outcome.following.squares, squares, rtol=1e-5, atol=1e-6)


def test_a_residual_out_of_range_is_cut_for_the_next_norm() -> None:
    weight, _ = stored("dense", 0, 64, 128, torch.float16, gated=False)
    card = torch.device("cuda")
    residual = torch.full((2, 64), 60000.0, device=card).half()
    following = NextNorm(
        gamma=torch.full((64,), 4.0, device=card).half(),
        h=torch.empty(2, 64, dtype=torch.float16, device=card),
        squares=torch.empty(2, 4, device=card),
    )
    x = torch.zeros(2, 128, dtype=torch.float16, device=card)
    linear(x, weight, residual=residual, following=following)
    assert (following.h == torch.finfo(torch.float16).max).all()
    torch.testing.assert_close(following.squares, reference.squares_of(residual))


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(("code", "group"), FORMS)
@pytest.mark.parametrize("rows", CHAIN_ROWS)
def test_a_captured_chain_is_the_same_under_dependent_launch(
    code: str, group: int, rows: int
) -> None:
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("no dependent launch on this card")
    chain = Chain(code, group, rows)
    truth = chain.run(chain.start.clone(), dependent=False)
    residual = chain.start.clone()
    chain.run(residual, dependent=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = chain.run(residual, dependent=True)
    for _ in range(20):
        residual.copy_(chain.start)
        made.fill_(float("nan"))
        graph.replay()
        assert torch.equal(made, truth)


def test_a_matrix_beyond_32_bits_of_words() -> None:
    columns = 8192
    outputs = 2**32 // columns + 1000
    if torch.cuda.mem_get_info()[0] < 12 * 2**30:
        pytest.skip("9 GB of weights do not fit")
    card, last = torch.device("cuda"), 40
    codes = torch.zeros(outputs, columns, dtype=torch.bfloat16, device=card)
    codes[-last:] = torch.randn(last, columns, device=card) * 0.03
    for rows in (1, 3):
        x = torch.randn(rows, columns, device=card).bfloat16()
        y = linear(x, RowWeight(codes=codes, scale=None))
        truth = reference.linear(x, codes[-last:])
        assert relative(y[:, -last:], truth) < TOLERANCE[torch.bfloat16]
        assert not y[:, :-last].any()


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(
    ("outputs", "columns", "group"), [(200, 608, 32), (50, 896, 64), (6144, 4096, 128)]
)
def test_tiles_become_dense(outputs: int, columns: int, group: int, gated: bool) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        weight, truth = stored("int4", group, outputs, columns, dtype, gated=gated)
        assert isinstance(weight, Int4Tiles)
        out = torch.full((outputs, columns), float("nan"), dtype=dtype, device="cuda")
        made = dequantize(weight, dtype, out=out)
        assert relative(made, truth) < TOLERANCE[dtype] / 3


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("code", [code for code, _ in TABLE_FORMS])
@pytest.mark.parametrize(("outputs", "columns"), [(200, 576), (50, 64), (6144, 4096)])
def test_tables_become_dense(code: str, outputs: int, columns: int, gated: bool) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        weight, truth = stored(code, 0, outputs, columns, dtype, gated=gated)
        assert isinstance(weight, TableTiles)
        out = torch.full((outputs, columns), float("nan"), dtype=dtype, device="cuda")
        made = dequantize_table(weight, dtype, out=out)
        assert relative(made, truth) < TOLERANCE[dtype] / 3


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(
    ("code", "group", "outputs", "columns"),
    [
        ("int4", 32, 200, 608),
        ("int4", 64, 50, 896),
        ("int4", 128, 6144, 4096),
        ("int8", 0, 50, 1008),
        ("int8", 0, 4096, 14336),
    ],
)
def test_many_rows_of_weights_as_stored(
    code: str, group: int, outputs: int, columns: int, gated: bool
) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        weight, truth = stored(code, group, outputs, columns, dtype, gated=gated)
        assert isinstance(weight, Int4Tiles | RowWeight)
        bias = torch.randn(outputs, device="cuda").to(dtype) if gated else None
        for rows in (1, 64, 65, 129, 300):
            x = torch.randn(rows, columns, device="cuda").to(dtype)
            out = torch.full((rows, outputs), float("nan"), dtype=dtype, device="cuda")
            made = linear_many(x, weight, bias=bias, out=out)
            assert relative(made, reference.linear(x, truth, bias=bias)) < TOLERANCE[dtype]


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(
    ("group", "outputs", "columns"),
    [(64, 208, 640), (64, 48, 896), (64, 576, 576), (128, 112, 384), (128, 6144, 4096)],
)
def test_warpgroup_products_of_int4(group: int, outputs: int, columns: int, gated: bool) -> None:
    """Whole tiles, tiles in equal parts and in uneven ones; the same bits each time."""
    major, minor = torch.cuda.get_device_capability()
    if 10 * major + minor != WIDE_SM:
        pytest.skip(f"made for SM {WIDE_SM}")
    units = -(-columns // 128) * 2
    for dtype in (torch.float16, torch.bfloat16):
        weight, truth = stored("int4", group, outputs, columns, dtype, gated=gated)
        assert isinstance(weight, Int4Tiles) and takes_wide(weight)
        bias = torch.randn(outputs, device="cuda").to(dtype) if group == 64 else None
        for rows, high in ((1, 128), (65, 128), (129, 128), (300, 128), (129, 256), (300, 256)):
            x = torch.randn(rows, columns, device="cuda").to(dtype)
            wanted = reference.linear(x, truth, bias=bias)
            shares = {units, 6, max(4, units // 4 // 2 * 2)}
            plans = [
                plan_of(high, share, x_rows=rows, outputs=weight.words.shape[0] * 16, units=units)
                for share in shares
            ]
            for plan in (None, *plans):
                out = torch.full((rows, outputs), float("nan"), dtype=dtype, device="cuda")
                made = linear_wide(x, weight, bias=bias, out=out, plan=plan)
                assert relative(made, wanted) < TOLERANCE[dtype]
                assert torch.equal(made, linear_wide(x, weight, bias=bias, plan=plan))


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(("code", "group"), FORMS)
def test_gelu_rides_on_a_gated_linear(code: str, group: int, rows: int) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        weight, truth = stored(code, group, 2 * 200, 896, dtype, gated=True)
        x = torch.randn(rows, 896, device="cuda").to(dtype)
        made = linear(x, weight, gated=True, gate="gelu_tanh")
        wanted = reference.linear(x, truth, gated=True, gate="gelu_tanh")
        assert relative(made, wanted) < TOLERANCE[dtype]


def test_two_levels_become_codes_of_eight_bits() -> None:
    weight, truth = stored("progressive4", 64, 200, 576, torch.float16, gated=True)
    assert isinstance(weight, Int4Tiles) and weight.channel is not None
    codes = expand(weight).float()
    torch.testing.assert_close(codes * weight.channel[:, None], truth)


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize(
    ("code", "group"), [("int4", 128), ("int4", 32), ("int8", 0), ("dense", 0)]
)
def test_slots_choose_their_experts(code: str, group: int, dependent: bool) -> None:
    """One launch, weights by a number on the device, as the layer's bank has them."""
    count, rows, share, columns, outputs = 6, 3, 2, 768, 200
    dependent = dependent and torch.cuda.get_device_capability()[0] >= 9
    for dtype, gated in ((torch.float16, True), (torch.bfloat16, False)):
        made = [stored(code, group, 2 * outputs, columns, dtype, gated=gated) for _ in range(count)]
        moved = stacked([weight for weight, _ in made])
        experts = torch.tensor([5, 0, 3, 3, 1, 4], dtype=torch.int32, device="cuda")
        scale = torch.rand(rows * share, device="cuda")
        x = torch.randn(rows, columns, device="cuda").to(dtype)
        y = linear(
            x,
            moved[0],
            chosen=Chosen(experts=experts, share=share),
            row_scale=scale,
            gated=gated,
            out_dtype=torch.float32,
            dependent=dependent,
        )
        for slot, expert in enumerate(experts.tolist()):
            wanted = reference.linear(
                x[slot // share][None],
                made[expert][1],
                row_scale=scale[slot : slot + 1],
                gated=gated,
            )
            assert relative(y[slot][None], wanted) < TOLERANCE[dtype], (slot, expert)
