"""Rows by expert and their products with experts' weights, interpreted, on awkward shapes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from quantchat.kernels.linear import reference
from quantchat.kernels.linear.choose import choose, route
from quantchat.kernels.linear.grouped import linear_grouped
from quantchat.kernels.linear.grouped_order import block_count, collect, order, spread
from quantchat.kernels.linear.launch import RowWeight
from quantchat.kernels.linear.pack import pack
from quantchat.kernels.linear.reference import Gate

from quantchat.ops.expert_bank import bank_of, stacked
from quantchat.ops.linear_tiles import tile_linear
from quantchat.ops.plain import Experts, Mlp
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.rounding import int8_channel
from quantchat.shapes import SHAPES
from quantchat.spec import ExpertsSpec

# The interpreter cuts where a card rounds to bf16.
TOLERANCE = {torch.float16: 1e-3, torch.bfloat16: 8e-3}


def picked(kind: str, rows: int, active: int, count: int) -> torch.Tensor:
    """Experts int32 [T, A], those of a row apart."""
    if kind == "one":
        return torch.full((rows, 1), count - 2, dtype=torch.int32)
    if kind == "last":
        return torch.arange(count - active, count, dtype=torch.int32).repeat(rows, 1)
    return torch.stack([torch.randperm(count)[:active] for _ in range(rows)]).int()


@pytest.mark.parametrize(
    ("kind", "rows", "active", "count", "block_rows"),
    [
        ("any", 1, 3, 9, 16),
        ("any", 21, 4, 6, 8),
        ("one", 37, 1, 5, 16),
        ("last", 40, 2, 7, 32),
        ("any", 300, 2, 130, 8),
        ("any", 2100, 2, 3, 128),
    ],
)
def test_order(kind: str, rows: int, active: int, count: int, block_rows: int) -> None:
    experts = picked(kind, rows, active, count)
    made = order(experts, count, block_rows)
    flat = experts.view(-1).long()
    by_expert = flat.sort(stable=True).indices
    assert torch.equal(made.tokens.long(), by_expert // active)
    assert torch.equal(made.places.long(), by_expert.argsort())
    assert made.blocks.shape == (3, block_count(flat.numel(), count, block_rows))
    wanted, start = [], 0
    for expert, size in enumerate(flat.bincount(minlength=count).tolist()):
        for first in range(start, start + size, block_rows):
            wanted.append((expert, first, min(first + block_rows, start + size)))
        start += size
    table = [tuple(row) for row in made.blocks.t().tolist()]
    assert table[: len(wanted)] == wanted and made.used.tolist() == [len(wanted)]
    assert set(table[len(wanted) :]) <= {(-1, 0, 1)}


@dataclass(frozen=True, kw_only=True)
class Case:
    code: str
    group: int
    count: int
    rows: int
    active: int
    outputs: int
    columns: int
    dtype: torch.dtype
    block_rows: int = 16
    gated: bool = False
    gate: Gate = "silu"
    gathered: bool = False
    kind: str = "any"


F16, BF16 = torch.float16, torch.bfloat16
# fmt: off
CASES = (
    Case(code="int4", group=32, count=3, rows=1, active=2, outputs=37, columns=96, dtype=F16),
    Case(code="int4", group=64, count=4, rows=9, active=2, outputs=44, columns=128, dtype=BF16,
         gated=True, gathered=True),
    Case(code="int4", group=128, count=3, rows=19, active=1, outputs=18, columns=256, dtype=F16,
         gated=True, gathered=True, gate="gelu_tanh", kind="one"),
    Case(code="int4", group=128, count=2, rows=35, active=1, outputs=70, columns=128, dtype=BF16,
         block_rows=32),
    Case(code="int8", group=0, count=4, rows=5, active=2, outputs=70, columns=80, dtype=BF16),
    Case(code="int8", group=0, count=3, rows=17, active=2, outputs=22, columns=128, dtype=F16,
         gated=True, gathered=True, kind="last"),
    Case(code="dense", group=0, count=3, rows=7, active=3, outputs=34, columns=72, dtype=F16,
         gated=True, gathered=True),
    Case(code="dense", group=0, count=3, rows=66, active=1, outputs=130, columns=64, dtype=BF16,
         block_rows=64),
)
# fmt: on


def stored(case: Case) -> tuple[object, torch.Tensor]:
    """An expert's weight as kernels read it, and in fp32."""
    rows, columns = case.outputs * (2 if case.gated else 1), case.columns
    if case.code == "dense":
        codes = torch.randn(rows, columns).to(case.dtype)
        return RowWeight(codes=codes, scale=None), codes.float()
    if case.code == "int8":
        codes = torch.randint(-127, 128, (rows, columns), dtype=torch.int8)
        scale = torch.rand(rows) * 0.01
        return RowWeight(codes=codes, scale=scale), codes.float() * scale[:, None]
    codes = torch.randint(0, 16, (rows, columns), dtype=torch.uint8)
    scale = (torch.rand(rows, columns // case.group) * 0.01 + 0.001).half()
    offset = (-scale * torch.rand(rows, columns // case.group) * 15).half()
    wide = scale.float().repeat_interleave(case.group, 1)
    dense = codes.float() * wide + offset.float().repeat_interleave(case.group, 1)
    return pack(codes, scale, offset, case.group, gated=case.gated), dense


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.group}-{case.rows}")
def test_products(case: Case) -> None:
    made = [stored(case) for _ in range(case.count)]
    first = stacked([weight for weight, _ in made])[0]  # type: ignore[misc]
    experts = picked(case.kind, case.rows, case.active, case.count)
    turn = order(experts, case.count, case.block_rows)
    tokens = turn.tokens.long()
    x = torch.randn(case.rows, case.columns).to(case.dtype)
    given = x if case.gathered else spread(x, turn)
    assert case.gathered or torch.equal(given, x[tokens])
    out = torch.full((len(tokens), case.outputs), float("nan"), dtype=case.dtype)
    options = {"gathered": case.gathered, "gated": case.gated, "gate": case.gate}
    got = linear_grouped(given, first, turn, out=out, **options)  # type: ignore[arg-type]
    chosen = experts.view(-1).sort(stable=True).values.tolist()
    truth = torch.cat(
        [
            reference.linear(x[token][None], made[e][1], gated=case.gated, gate=case.gate)
            for token, e in zip(tokens.tolist(), chosen, strict=True)
        ]
    )
    limit = TOLERANCE[case.dtype] * (2 if case.gated else 1)
    assert float((got.float() - truth).norm() / truth.norm()) < limit


def test_rows_collect_their_results_in_the_order_of_their_slots() -> None:
    experts = picked("any", 11, 3, 5)
    turn = order(experts, 5, 16)
    y, shares = torch.randn(33, 40).half(), torch.rand(11, 3)
    wanted = torch.zeros(11, 40)
    for a in range(3):
        wanted += y[turn.places.long().view(11, 3)[:, a]].float() * shares[:, a, None]
    torch.testing.assert_close(collect(y, turn, shares), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("count", "active", "renormalise"), [(5, 2, True), (40, 5, False)])
def test_choice(count: int, active: int, renormalise: bool) -> None:
    scores = torch.randn(6, count)
    scores[1] = scores[1, 0]
    scores[2] *= 60
    scores[3, 1:] = float("-inf")
    shares, experts = choose(scores, active, renormalise=renormalise)
    wanted, order = torch.softmax(scores, -1).sort(dim=-1, descending=True, stable=True)
    if renormalise:
        wanted = wanted / wanted[:, :active].sum(-1, keepdim=True)
    torch.testing.assert_close(shares, wanted[:, :active], rtol=1e-5, atol=1e-9)
    assert torch.equal(experts[:2].long(), order[:2, :active])
    assert experts[1].tolist() == list(range(active))
    odd, among = choose(torch.full((1, count), float("nan")), active, renormalise=renormalise)
    assert odd.shape == among.shape == (1, active)
    for row in (*experts.tolist(), *among.tolist()):
        assert len(set(row)) == active and max(row) < count


@pytest.mark.parametrize(
    ("rows", "count", "active", "columns", "dtype"),
    [(9, 5, 2, 72, torch.float16), (33, 40, 3, 64, torch.bfloat16)],
)
def test_route(rows: int, count: int, active: int, columns: int, dtype: torch.dtype) -> None:
    x, router = torch.randn(rows, columns).to(dtype), torch.randn(count, columns)
    shares, experts = route(x, router, active, renormalise=True)
    wanted, among = choose(x.float() @ router.t(), active, renormalise=True)
    assert torch.equal(experts, among)
    torch.testing.assert_close(shares, wanted, rtol=1e-5, atol=1e-6)


def test_many_rows_of_a_layer_go_through_its_bank() -> None:
    width, inner, count, rows = 48, 32, 3, 30
    spec = ExpertsSpec(count=count, active=2, intermediate=inner, renormalise=True)
    made = [
        (int8_channel(torch.randn(2 * inner, width)), int8_channel(torch.randn(width, inner)))
        for _ in range(count)
    ]
    mlps = [
        Mlp(
            **{
                name: tile_linear(
                    weight,
                    None,
                    dtype=torch.float16,
                    gated=name == "gate_up",
                    activations="16bit",
                    dependent=False,
                )
                for name, weight in zip(("gate_up", "down"), pair, strict=True)
            }  # type: ignore[arg-type]
        )
        for pair in made
    ]
    bank = bank_of(mlps, "silu", dependent=False)
    assert bank is not None
    layer = Experts(spec=spec, router=torch.randn(count, width), mlps=bank[1], bank=bank[0])
    x = torch.randn(rows, width).half()
    shape = replace(SHAPES["smollm2-135m"], hidden=width, intermediate=inner)
    got = layer(x, TorchOps(shape, device=torch.device("cpu"), dtype=torch.float32))
    shares, experts = layer.choose(x.float() @ layer.router.t())
    truth = torch.zeros(rows, width)
    for row in range(rows):
        for share, expert in zip(shares[row], experts[row].tolist(), strict=True):
            one, two = (weight.dequantize(torch.float32) for weight in made[expert])
            half = reference.linear(x[row : row + 1], one, gated=True)
            truth[row] += share * reference.linear(half, two)[0]
    assert float((got - truth).norm() / truth.norm()) < TOLERANCE[torch.float16]
