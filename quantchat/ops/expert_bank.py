"""Experts of a layer side by side in a card's memory: rows ask for theirs on the device.

Nothing is read back. Few rows take weights choice by choice, many are put in the order of their
experts first. T rows, A experts of each, C width, I inner width, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from quantchat.kernels.linear.choose import MOST_ROUTED, choose, route
from quantchat.kernels.linear.grouped import (
    BlockRows,
    GroupedWeight,
    block_limits,
    block_rows,
    every_block,
    linear_grouped,
)
from quantchat.kernels.linear.grouped_order import Order, collect, order, spread
from quantchat.kernels.linear.grouped_wide import boxed_experts, linear_grouped_wide
from quantchat.kernels.linear.launch import (
    COLUMN_ROWS,
    Chosen,
    Grouped,
    RowWeight,
    Weight,
    linear,
)
from quantchat.kernels.linear.pack import Int4Tiles
from quantchat.kernels.linear.reference import Gate
from quantchat.kernels.linear.table_pack import TableTiles
from quantchat.kernels.linear.wide import BoxedTiles
from quantchat.ops.linear import LinearOp
from quantchat.ops.linear_tiles import TileLinear
from quantchat.ops.plain import Mlp

SLOT_ROWS = 8
"""Rows of a decode step: up to so many, weights are read for each choice by itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """One weight of every expert."""

    weight: GroupedWeight
    """The first of many alike, one behind the other in memory."""
    boxed: BoxedTiles | None
    """All of them, where the kernel of warpgroup products takes them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExpertBank:
    """Gate and up, and down, of all experts."""

    gate_up: Side
    down: Side
    count: int
    gate: Gate
    dependent: bool
    limits: BlockRows
    """How many rows share a block."""

    @classmethod
    def of(
        cls,
        gate_up: GroupedWeight,
        down: GroupedWeight,
        count: int,
        gate: Gate,
        *,
        dependent: bool,
    ) -> ExpertBank:
        """From the first expert of `count`."""
        boxes = [_boxed(weight, count) for weight in (gate_up, down)]
        wide = None not in boxes
        return cls(
            gate_up=Side(weight=gate_up, boxed=boxes[0] if wide else None),
            down=Side(weight=down, boxed=boxes[1] if wide else None),
            count=count,
            gate=gate,
            dependent=dependent,
            limits=block_limits(gate_up, wide=wide),
        )

    def row_counts(self, active: int) -> tuple[int, ...]:
        """See Bank.row_counts."""
        slots: tuple[int, ...] = every_block(self.limits, self.count)
        return tuple(max(SLOT_ROWS + 1, -(-number // active)) for number in slots)

    def choose(
        self, scores: torch.Tensor, active: int, *, renormalise: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """scores float32 [T, E] -> shares float32 and experts int32 [T, A]."""
        made: tuple[torch.Tensor, torch.Tensor] = choose(scores, active, renormalise=renormalise)
        return made

    def routes(self, x: torch.Tensor) -> bool:
        """See Bank.routes."""
        return x.is_cuda and x.shape[0] > SLOT_ROWS and self.count <= MOST_ROUTED

    def route(
        self, x: torch.Tensor, router: torch.Tensor, active: int, *, renormalise: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See Bank.route."""
        made: tuple[torch.Tensor, torch.Tensor] = route(x, router, active, renormalise=renormalise)
        return made

    def __call__(
        self, x: torch.Tensor, experts: torch.Tensor, shares: torch.Tensor
    ) -> torch.Tensor:
        """x [T, C], experts int [T, A], shares float32 [T, A] -> float32 [T, C]."""
        experts = experts.to(torch.int32)
        by_slot = x.shape[0] <= SLOT_ROWS
        return (self._by_slot if by_slot else self._by_expert)(x, experts, shares)

    def _by_slot(
        self, x: torch.Tensor, experts: torch.Tensor, shares: torch.Tensor
    ) -> torch.Tensor:
        """Every choice with weights of its own."""
        rows, active = experts.shape
        chosen = experts.view(-1)
        inner = linear(
            x,
            self.gate_up.weight,
            chosen=Chosen(experts=chosen, share=active),
            gated=True,
            gate=self.gate,
            dependent=self.dependent,
        )
        made: torch.Tensor = linear(
            inner,
            self.down.weight,
            chosen=Chosen(experts=chosen, share=1),
            row_scale=shares.reshape(-1),
            out_dtype=torch.float32,
            dependent=self.dependent,
        )
        return made.view(rows, active, -1).sum(dim=1)

    def _by_expert(
        self, x: torch.Tensor, experts: torch.Tensor, shares: torch.Tensor
    ) -> torch.Tensor:
        """Blocks of rows that share an expert; results are rounded to x's type, then added."""
        rows = block_rows(self.limits, experts.numel(), self.count)
        turn = order(experts, self.count, rows)
        inner = self._product(x, self.gate_up, turn, gated=True)
        made = self._product(inner, self.down, turn, gated=False)
        out: torch.Tensor = collect(made, turn, shares.contiguous())
        return out

    def _product(self, x: torch.Tensor, side: Side, turn: Order, *, gated: bool) -> torch.Tensor:
        """x by place, but where `gated` as it came -> by place."""
        y: torch.Tensor
        if turn.block_rows > COLUMN_ROWS and side.boxed is None:
            y = linear_grouped(x, side.weight, turn, gathered=gated, gated=gated, gate=self.gate)
            return y
        x = spread(x, turn) if gated else x
        if side.boxed is not None and turn.block_rows > COLUMN_ROWS:
            assert isinstance(side.weight, Int4Tiles)
            y = linear_grouped_wide(x, side.weight, turn, side.boxed, gated=gated, gate=self.gate)
            return y
        blocks = Grouped(blocks=turn.blocks)
        y = linear(
            x,
            side.weight,
            chosen=blocks,
            gated=gated,
            gate=self.gate,
            dependent=self.dependent,
        )
        return y


def _boxed(weight: GroupedWeight, count: int) -> BoxedTiles | None:
    return boxed_experts(weight, count) if isinstance(weight, Int4Tiles) else None


def bank_of(
    mlps: Sequence[Mlp], gate: Gate, *, dependent: bool
) -> tuple[ExpertBank, tuple[Mlp, ...]] | None:
    """A bank and the same experts on its memory; None where their weights are not alike."""
    gate_ups = _tiles([mlp.gate_up for mlp in mlps], gated=True)
    downs = _tiles([mlp.down for mlp in mlps], gated=False)
    if gate_ups is None or downs is None:
        return None
    sides = [_side_by_side(gate_ups), _side_by_side(downs)]
    gate_up, down = sides[0][0].weight, sides[1][0].weight
    assert not isinstance(gate_up, TableTiles) and not isinstance(down, TableTiles)
    bank = ExpertBank.of(gate_up, down, len(mlps), gate, dependent=dependent)
    made = (Mlp(gate_up=one, down=two) for one, two in zip(*sides, strict=True))
    return bank, tuple(made)


def _tiles(ops: Sequence[LinearOp], *, gated: bool) -> list[TileLinear] | None:
    """The ops where one launch can choose between them."""
    tiles = [op for op in ops if isinstance(op, TileLinear) and op.plain and op.gated == gated]
    if len(tiles) < len(ops) or len({_kind(op.weight) for op in tiles}) != 1:
        return None
    return tiles


def _kind(weight: Weight) -> tuple[object, ...]:
    if isinstance(weight, RowWeight):
        return weight.codes.shape, weight.codes.dtype, weight.scale is None
    if isinstance(weight, Int4Tiles):
        return weight.words.shape, weight.pairs.shape, weight.group_size, weight.channel is None
    return (id(weight),)


def _side_by_side(ops: Sequence[TileLinear]) -> list[TileLinear]:
    """The ops on slices of common tensors."""
    moved = stacked([op.weight for op in ops])
    return [op.on(weight) for op, weight in zip(ops, moved, strict=True)]


def stacked(weights: Sequence[Weight]) -> list[Weight]:
    """Weights that are alike, one behind the other in memory."""
    if isinstance(weights[0], RowWeight):
        rows = [weight for weight in weights if isinstance(weight, RowWeight)]
        codes = torch.stack([weight.codes for weight in rows])
        scales = [weight.scale for weight in rows if weight.scale is not None]
        beside = torch.stack(scales) if scales else None
        return [
            RowWeight(codes=part, scale=None if beside is None else beside[i])
            for i, part in enumerate(codes)
        ]
    tiles = [weight for weight in weights if isinstance(weight, Int4Tiles)]
    words = torch.stack([weight.words for weight in tiles])
    pairs = torch.stack([weight.pairs for weight in tiles])
    return [replace(one, words=words[i], pairs=pairs[i]) for i, one in enumerate(tiles)]
