"""Rows by expert on a card: their order, products by every block of rows, whole layers."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("triton")

import torch
from linear_cases import stored
from nearness import relative
from quantchat.kernels._ahead import noting
from quantchat.kernels.linear import reference
from quantchat.kernels.linear.choose import choose, route
from quantchat.kernels.linear.grouped import linear_grouped
from quantchat.kernels.linear.grouped_order import collect, order, spread
from quantchat.kernels.linear.grouped_wide import boxed_experts, linear_grouped_wide
from quantchat.kernels.linear.launch import COLUMN_ROWS, LOWEST_SM, Grouped, RowWeight, linear
from quantchat.kernels.linear.pack import Int4Tiles
from quantchat.kernels.linear.reference import Gate

from quantchat.ops.expert_bank import ExpertBank, stacked
from quantchat.ops.plain import Experts
from quantchat.ops.torch_ops import TorchOps
from quantchat.shapes import SHAPES
from quantchat.spec import ExpertsSpec

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 6e-3}
FORMS = (("int4", 128), ("int4", 64), ("int4", 32), ("int8", 0), ("dense", 0))


KINDS: tuple[tuple[torch.dtype, bool, Gate], ...] = (
    (torch.float16, True, "silu"),
    (torch.bfloat16, False, "silu"),
    (torch.bfloat16, True, "gelu_tanh"),
)


@pytest.fixture(autouse=True)
def card() -> torch.device:
    major, minor = torch.cuda.get_device_capability()
    if 10 * major + minor < LOWEST_SM:
        pytest.skip(f"experts in one piece begin at SM {LOWEST_SM}")
    torch.manual_seed(3)
    return torch.device("cuda")


@pytest.mark.parametrize("block_rows", [8, 16, 128])
@pytest.mark.parametrize(("rows", "active", "count"), [(1, 8, 128), (37, 2, 8), (2048, 8, 128)])
def test_order(card: torch.device, rows: int, active: int, count: int, block_rows: int) -> None:
    scores = torch.randn(rows, count, device=card)
    shares, experts = choose(scores, active, renormalise=True)
    made = order(experts, count, block_rows)
    wanted, best = torch.softmax(scores, -1).topk(active, dim=-1)
    assert torch.equal(experts.long(), best)
    torch.testing.assert_close(shares, wanted / wanted.sum(-1, keepdim=True))
    flat = experts.view(-1).cpu().long()
    by_expert = flat.sort(stable=True).indices
    assert torch.equal(made.tokens.cpu().long(), by_expert // active)
    assert torch.equal(made.places.cpu().long(), by_expert.argsort())
    blocks, start = [], 0
    for expert, size in enumerate(flat.bincount(minlength=count).tolist()):
        for first in range(start, start + size, block_rows):
            blocks.append((expert, first, min(first + block_rows, start + size)))
        start += size
    table = [tuple(row) for row in made.blocks.t().tolist()]
    assert table[: len(blocks)] == blocks and made.used.tolist() == [len(blocks)]
    assert set(table[len(blocks) :]) <= {(-1, 0, 1)}


@pytest.mark.parametrize(
    ("rows", "count", "active", "columns", "dtype"),
    [
        (9, 8, 2, 4096, torch.float16),
        (300, 128, 8, 2048, torch.bfloat16),
        (70, 200, 10, 1000, torch.bfloat16),
    ],
)
def test_route(
    card: torch.device, rows: int, count: int, active: int, columns: int, dtype: torch.dtype
) -> None:
    x = torch.randn(rows, columns, device=card).to(dtype)
    router = torch.randn(count, columns, device=card) * columns**-0.5
    shares, experts = route(x, router, active, renormalise=False)
    truth = torch.softmax(x.double() @ router.double().t(), dim=-1)
    assert float((shares / truth.topk(active, dim=-1).values - 1).abs().max()) < 2e-4
    assert float((shares / truth.gather(1, experts.long()) - 1).abs().max()) < 2e-4
    assert all(len(set(row)) == active for row in experts.tolist())


@pytest.mark.parametrize(
    ("form", "block_rows", "kind"),
    [
        (form, rows, KINDS[(i + j) % len(KINDS)])
        for i, form in enumerate(FORMS)
        for j, rows in enumerate((COLUMN_ROWS, 16, 32, 64, 128))
    ],
)
def test_products(
    card: torch.device,
    form: tuple[str, int],
    block_rows: int,
    kind: tuple[torch.dtype, bool, Gate],
) -> None:
    """One expert has most rows, one has none."""
    (code, group), (dtype, gated, gate) = form, kind
    count, rows, columns, outputs = 5, 150, 384, 200
    weights = [
        stored(code, group, outputs * (2 if gated else 1), columns, dtype, gated=gated)
        for _ in range(count)
    ]
    first = stacked([weight for weight, _ in weights])[0]
    assert isinstance(first, Int4Tiles | RowWeight)
    draw = torch.tensor([0.75, 0.1, 0.0, 0.1, 0.05], device=card).expand(rows, count)
    experts = torch.multinomial(draw, 2).int()
    turn = order(experts, count, block_rows)
    x = torch.randn(rows, columns, device=card).to(dtype)
    options = {"gated": gated, "gate": gate}
    by_place = spread(x, turn)
    if block_rows == COLUMN_ROWS:
        blocks = Grouped(blocks=turn.blocks)
        made = [linear(by_place, first, chosen=blocks, **options)]
    else:
        made = [
            linear_grouped(x, first, turn, gathered=True, **options),
        ]
        if isinstance(first, Int4Tiles) and (boxed := boxed_experts(first, count)) is not None:
            made.append(linear_grouped_wide(by_place, first, turn, boxed, **options))
    places = turn.places.long().view(rows, 2)
    for expert, (_, dense) in enumerate(weights):
        row, slot = torch.where(experts == expert)
        if len(row):
            wanted = reference.linear(x[row], dense, gated=gated, gate=gate)
            for got in made:
                assert relative(got[places[row, slot]], wanted) < TOLERANCE[dtype], expert


@pytest.mark.parametrize(("code", "group"), [("int4", 128), ("int8", 0), ("dense", 0)])
@pytest.mark.parametrize("rows", [9, 60, 300, 1000])
def test_a_layer_over_many_rows(card: torch.device, code: str, group: int, rows: int) -> None:
    """The same in a graph, and bit by bit the same again."""
    spec = ExpertsSpec(count=16, active=4, intermediate=256, renormalise=True)
    width, dtype = 512, torch.bfloat16
    made = [
        (
            stored(code, group, 2 * spec.intermediate, width, dtype, gated=True),
            stored(code, group, width, spec.intermediate, dtype, gated=False),
        )
        for _ in range(spec.count)
    ]
    gate_up, down = (stacked([pair[i][0] for pair in made])[0] for i in range(2))
    assert isinstance(gate_up, Int4Tiles | RowWeight) and isinstance(down, Int4Tiles | RowWeight)
    dependent = torch.cuda.get_device_capability()[0] >= 9
    bank = ExpertBank.of(gate_up, down, spec.count, "silu", dependent=dependent)
    router = torch.randn(spec.count, width, device=card) * 0.1
    layer = Experts(spec=spec, router=router, mlps=(), bank=bank)
    shape = replace(SHAPES["smollm2-135m"], hidden=width)
    ops = TorchOps(shape, device=card, dtype=dtype)
    x = torch.randn(rows, width, device=card).to(dtype)
    with noting():
        layer(x, ops)
    got = layer(x, ops)
    shares, experts = layer.pick(x)
    truth = torch.zeros(rows, width, device=card)
    for expert, pair in enumerate(made):
        row, slot = torch.where(experts == expert)
        inner = reference.linear(x[row], pair[0][1], gated=True)
        truth.index_add_(0, row, reference.linear(inner, pair[1][1]) * shares[row, slot, None])
    assert relative(got, truth) < 2 * TOLERANCE[dtype]
    assert torch.equal(layer(x, ops), got)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        again = layer(x, ops)
    graph.replay()
    assert torch.equal(again, got)


def test_results_are_collected_in_the_order_of_slots(card: torch.device) -> None:
    experts = choose(torch.randn(33, 7, device=card), 3, renormalise=False)[1]
    turn = order(experts, 7, 16)
    y, shares = torch.randn(99, 1400, device=card).half(), torch.rand(33, 3, device=card)
    wanted = (y[turn.places.long().view(33, 3)].float() * shares[..., None]).sum(1)
    torch.testing.assert_close(collect(y, turn, shares), wanted, rtol=1e-5, atol=1e-5)
