"""Experts of a layer side by side in a card's memory: few rows ask for theirs on the device.

Nothing is read back, so a step with experts can be captured. Many rows go expert by expert, on
the same memory. T rows, A experts of each, C width, I inner width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from quantchat.kernels.linear.launch import Chosen, RowWeight, Weight, linear
from quantchat.kernels.linear.pack import Int4Tiles
from quantchat.kernels.linear.reference import Gate
from quantchat.ops.linear import LinearOp
from quantchat.ops.linear_tiles import TileLinear
from quantchat.ops.plain import Mlp

BANK_ROWS = 8
"""Rows of a decode step."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExpertBank:
    """Gate and up, and down, of all experts; each weight is the first of many alike."""

    gate_up: Weight
    down: Weight
    gate: Gate
    dependent: bool
    rows_most: int = BANK_ROWS

    def __call__(
        self, x: torch.Tensor, experts: torch.Tensor, shares: torch.Tensor
    ) -> torch.Tensor:
        """x [T, C], experts int [T, A], shares float32 [T, A] -> float32 [T, C]."""
        rows, active = experts.shape
        chosen = experts.to(torch.int32).view(-1)
        inner = linear(
            x,
            self.gate_up,
            chosen=Chosen(experts=chosen, share=active),
            gated=True,
            gate=self.gate,
            dependent=self.dependent,
        )
        made: torch.Tensor = linear(
            inner,
            self.down,
            chosen=Chosen(experts=chosen, share=1),
            row_scale=shares.reshape(-1),
            out_dtype=torch.float32,
            dependent=self.dependent,
        )
        return made.view(rows, active, -1).sum(dim=1)


def bank_of(
    mlps: Sequence[Mlp], gate: Gate, *, dependent: bool
) -> tuple[ExpertBank, tuple[Mlp, ...]] | None:
    """A bank and the same experts on its memory; None where their weights are not alike."""
    gate_ups = _tiles([mlp.gate_up for mlp in mlps], gated=True)
    downs = _tiles([mlp.down for mlp in mlps], gated=False)
    if gate_ups is None or downs is None:
        return None
    sides = [_side_by_side(gate_ups), _side_by_side(downs)]
    bank = ExpertBank(
        gate_up=sides[0][0].weight, down=sides[1][0].weight, gate=gate, dependent=dependent
    )
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
