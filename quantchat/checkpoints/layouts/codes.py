"""What packed tensors of a linear say, whoever wrote them: codes, scales, and the way to values.

Neutral records between layouts and stored formats. All are [N, K]; values are made in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch

SCALES_TOGETHER = 256
"""Block scales of bitsandbytes that share a scale of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCodes:
    """`w = (q - zero) * scale` with one pair for each group of inputs.

    codes: uint8 [N, K]; scale: float [N, G]; zero: uint8 [N, G]; groups: int64 [K], the group of
    each input where they do not stand in a row, group_size inputs each. Some files state
    `-zero * scale` instead: offset float [N, G], which stands for `zero` then.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor
    group_size: int
    bits: int
    groups: torch.Tensor | None = None
    offset: torch.Tensor | None = None

    def offsets(self) -> torch.Tensor:
        """What is added to `q * scale`, float32 [N, G]."""
        if self.offset is not None:
            return self.offset.float()
        return -self.zero.float() * self.scale.float()

    def dense(self) -> torch.Tensor:
        """float32 [N, K]."""
        zero, scale = self.zero.float(), self.scale.float()
        if self.groups is not None:
            values = self.codes.float() - zero.index_select(1, self.groups)
            return values.mul_(scale.index_select(1, self.groups))
        n, k = self.codes.shape
        if self.offset is not None:
            wide = self.codes.view(n, -1, self.group_size).float().mul_(scale[..., None])
            return wide.add_(self.offsets()[..., None]).view(n, k)
        values = self.codes.view(n, -1, self.group_size).float() - zero[..., None]
        return values.mul_(scale[..., None]).view(n, k)


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Codes:
    """`w = codes * scale`: int8 [N, K], float32 [N]."""

    codes: torch.Tensor
    scale: torch.Tensor

    def dense(self) -> torch.Tensor:
        """float32 [N, K]."""
        return self.codes.float() * self.scale[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fp8Codes:
    """`w = codes * scale`: E4M3FN bits as uint8 [N, K].

    scale: float32 [ceil(N / rows), ceil(K / columns)], one for each tile, ragged at the edges.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    tile: tuple[int, int]

    def dense(self) -> torch.Tensor:
        """float32 [N, K]."""
        (n, k), (rows, columns) = self.codes.shape, self.tile
        values = self.codes.view(torch.float8_e4m3fn).float()
        if rows >= n and columns >= k:
            return values.mul_(self.scale)
        by_row = self.scale.repeat_interleave(rows, dim=0)[:n]
        if columns >= k:
            return values.mul_(by_row)
        return values.mul_(by_row.repeat_interleave(columns, dim=1)[:, :k])


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleScales:
    """Block scales in 8 bits: `table[codes] * scale[block // 256] + offset`.

    codes: uint8 [blocks]; table: float32 [256]; scale: float32 [ceil(blocks / 256)].
    """

    codes: torch.Tensor
    table: torch.Tensor
    scale: torch.Tensor
    offset: float

    def resolved(self) -> torch.Tensor:
        """float32 [blocks]."""
        block = torch.arange(self.codes.numel(), device=self.codes.device) // SCALES_TOGETHER
        return self.table[self.codes.long()] * self.scale[block] + self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCodes:
    """`w = table[q] * scale of its block`; blocks run through the matrix row by row.

    packed: uint8 [N, K/2], low nibble first; table: float32 [16]; scales: float32 [blocks].
    """

    packed: torch.Tensor
    table: torch.Tensor
    scales: torch.Tensor | DoubleScales
    block: int

    def resolved(self) -> torch.Tensor:
        """Block scales float32 [blocks]."""
        return self.scales.resolved() if isinstance(self.scales, DoubleScales) else self.scales

    def dense(self) -> torch.Tensor:
        """float32 [N, K]."""
        n, half = self.packed.shape
        codes = torch.stack((self.packed & 15, self.packed >> 4), dim=-1).flatten()
        values = self.table.index_select(0, codes.int())
        scales = self.resolved()
        if values.numel() % self.block:
            wide = scales.repeat_interleave(self.block)[: values.numel()]
            return values.mul_(wide).view(n, 2 * half)
        return values.view(-1, self.block).mul_(scales[:, None]).view(n, 2 * half)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCodes:
    """`w = (q - zero) * step * scale`: QServe's codes of two steps.

    codes: uint8 [N, K]; step, zero: uint8 [N, G]; scale: float32 [N].
    """

    codes: torch.Tensor
    step: torch.Tensor
    zero: torch.Tensor
    scale: torch.Tensor

    def dense(self) -> torch.Tensor:
        """float32 [N, K]."""
        n, k = self.codes.shape
        groups = self.step.shape[1]
        inner = self.codes.view(n, groups, -1).float() - self.zero.float()[..., None]
        return (inner.mul_(self.step.float()[..., None]) * self.scale[:, None, None]).view(n, k)


@dataclass(frozen=True, slots=True, kw_only=True)
class LutCodes:
    """`w = table[row, q] + sparse`: SqueezeLLM's.

    codes: uint8 [N, K]; table: float32 [N, 2**bits]; sparse by rows: starts [N + 1], columns,
    values, all three or none.
    """

    codes: torch.Tensor
    table: torch.Tensor
    bits: int
    starts: torch.Tensor | None = None
    columns: torch.Tensor | None = None
    values: torch.Tensor | None = None

    def dense(self) -> torch.Tensor:
        """float32 [N, K]."""
        dense = self.table.float().gather(1, self.codes.long())
        if self.starts is None or self.columns is None or self.values is None:
            return dense
        counts = (self.starts[1:] - self.starts[:-1]).long()
        rows = torch.repeat_interleave(torch.arange(len(counts), device=dense.device), counts)
        flat = rows * dense.shape[1] + self.columns.long()
        dense.view(-1).index_add_(0, flat, self.values.float())
        return dense


Codes: TypeAlias = GroupCodes | Int8Codes | Fp8Codes | TableCodes | StepCodes | LutCodes
