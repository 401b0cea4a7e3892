"""Experts side by side: the same weights in one piece, and who takes which of them."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("triton")

import itertools

import torch
from quantchat.kernels.linear import reference
from quantchat.kernels.linear.grouped import block_rows
from quantchat.kernels.linear.launch import Chosen, RowWeight
from quantchat.kernels.linear.pack import Int4Tiles

from quantchat.ops import expert_bank
from quantchat.ops.expert_bank import SLOT_ROWS, bank_of
from quantchat.ops.linear import LinearOp
from quantchat.ops.linear_tiles import TileLinear, tile_linear
from quantchat.ops.plain import Experts, Mlp
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.rounding import int4_group, int8_channel
from quantchat.quant.tensor import DenseWeight, StoredWeight
from quantchat.shapes import SHAPES
from quantchat.spec import ExpertsSpec

WIDTH, INNER, COUNT, ACTIVE = 64, 96, 5, 2
SPEC = ExpertsSpec(count=COUNT, active=ACTIVE, intermediate=INNER, renormalise=True)


def stored(form: str, rows: int, columns: int) -> StoredWeight:
    dense = torch.randn(rows, columns) * 0.1
    if form == "int4":
        return int4_group(dense, 32)
    if form == "dense":
        return DenseWeight(dense.half())
    return int8_channel(dense)


def tiles(weight: StoredWeight, *, gated: bool) -> LinearOp:
    made = tile_linear(
        weight, None, dtype=torch.float16, gated=gated, activations="16bit", dependent=False
    )
    assert made is not None
    return made


def experts(form: str) -> tuple[list[Mlp], list[tuple[torch.Tensor, torch.Tensor]]]:
    """MLPs of a card, and their weights in float32."""
    pairs = [(stored(form, 2 * INNER, WIDTH), stored(form, WIDTH, INNER)) for _ in range(COUNT)]
    mlps = [Mlp(gate_up=tiles(a, gated=True), down=tiles(b, gated=False)) for a, b in pairs]
    return mlps, [(a.dequantize(torch.float32), b.dequantize(torch.float32)) for a, b in pairs]


def pointer(op: LinearOp) -> int:
    assert isinstance(op, TileLinear)
    weight = op.weight
    assert isinstance(weight, RowWeight | Int4Tiles)
    return (weight.codes if isinstance(weight, RowWeight) else weight.words).data_ptr()


@pytest.mark.parametrize("form", ["int4", "int8", "dense"])
def test_a_bank_is_its_experts_in_one_piece(form: str) -> None:
    mlps, _ = experts(form)
    made = bank_of(mlps, "silu", dependent=False)
    assert made is not None
    bank, moved = made
    for part, first in (
        ("gate_up", bank.gate_up.weight),
        ("down", bank.down.weight),
    ):
        ops: list[TileLinear] = [getattr(mlp, part) for mlp in moved]
        assert ops[0].weight is first
        steps = {pointer(b) - pointer(a) for a, b in itertools.pairwise(ops)}
        assert len(steps) == 1 and steps.pop() > 0
        for mlp, op in zip(mlps, ops, strict=True):
            before, after = getattr(mlp, part).weight, op.weight
            for field in dataclasses.fields(before):
                one, two = getattr(before, field.name), getattr(after, field.name)
                same = (
                    torch.equal(one.float(), two.float())
                    if isinstance(one, torch.Tensor)
                    else one == two
                )
                assert same, field.name


def test_weights_that_are_not_alike_make_no_bank() -> None:
    mlps, _ = experts("int8")
    other, _ = experts("int4")
    assert bank_of([*mlps[:-1], other[0]], "silu", dependent=False) is None
    biased = tile_linear(
        stored("int8", WIDTH, INNER),
        torch.zeros(WIDTH).half(),
        dtype=torch.float16,
        gated=False,
        activations="16bit",
        dependent=False,
    )
    assert biased is not None
    odd = Mlp(gate_up=mlps[0].gate_up, down=biased)
    assert bank_of([*mlps[:-1], odd], "silu", dependent=False) is None


@pytest.mark.parametrize("form", ["int4", "int8", "dense"])
def test_some_rows_are_named_for_every_size_of_a_block(form: str) -> None:
    made = bank_of(experts(form)[0], "silu", dependent=False)
    assert made is not None
    bank = made[0]
    every = {block_rows(bank.limits, rows * ACTIVE, COUNT) for rows in range(9, 2000)}
    named = bank.row_counts(ACTIVE)
    assert {block_rows(bank.limits, rows * ACTIVE, COUNT) for rows in named} == every
    assert min(named) > SLOT_ROWS


def test_few_rows_ask_the_bank_for_the_router_s_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches are replaced by the reference, expert by slot; the card's tests run the kernel."""
    mlps, dense = experts("int8")
    made = bank_of(mlps, "silu", dependent=False)
    assert made is not None
    bank, moved = made
    asked: list[Chosen] = []

    def linear(
        x: torch.Tensor, weight: object, *, chosen: Chosen, **options: object
    ) -> torch.Tensor:
        asked.append(chosen)
        side = 0 if weight is bank.gate_up.weight else 1
        rows = x.repeat_interleave(chosen.share, dim=0)
        scale = options.get("row_scale")
        assert scale is None or isinstance(scale, torch.Tensor)
        parts = [
            reference.linear(rows[i : i + 1], dense[expert][side], gated=side == 0)
            * (1 if scale is None else scale[i])
            for i, expert in enumerate(chosen.experts.tolist())
        ]
        return torch.cat(parts)

    monkeypatch.setattr(expert_bank, "linear", linear)
    layer = Experts(spec=SPEC, router=torch.randn(COUNT, WIDTH), mlps=moved, bank=bank)
    x = torch.randn(3, WIDTH).half()
    spec = dataclasses.replace(SHAPES["smollm2-135m"], hidden=WIDTH, intermediate=INNER)
    ops = TorchOps(spec, device=torch.device("cpu"), dtype=torch.float32)
    got = layer(x, ops)
    assert [chosen.share for chosen in asked] == [ACTIVE, 1]
    shares, picked = torch.softmax(x.float() @ layer.router.t(), -1).topk(ACTIVE, dim=-1)
    shares = shares / shares.sum(-1, keepdim=True)
    for row in range(3):
        truth = torch.zeros(WIDTH)
        for share, index in zip(shares[row], picked[row].tolist(), strict=True):
            one, two = dense[index]
            inner = reference.linear(x[row : row + 1].float(), one, gated=True)
            truth += share * reference.linear(inner, two)[0]
        torch.testing.assert_close(got[row], truth, rtol=1e-4, atol=1e-5)
