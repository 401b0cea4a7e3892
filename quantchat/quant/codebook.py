"""Codes of four bits that index one table of sixteen values, scaled block by block.

The stored format of NF4 and FP4 (2305.14314, bitsandbytes); making it is codebook_rounding's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch

from quantchat.quant.pack import unpack_nibbles

NESTED_BLOCK = 256
"""Block scales that share one scale of their own under double quantization."""


@dataclass(frozen=True, slots=True)
class NestedScales:
    """Block scales in 8 bits: `table[codes] * scale[block // 256] + offset[block // 256]`.

    codes: uint8 [N, K/B]; table: float32 [256]; scale, offset: float32 [ceil(N * K / B / 256)],
    blocks counted row by row. The offset, one number of a tensor, stands once for each 256 blocks,
    so that matrices can be stacked.
    """

    codes: torch.Tensor
    table: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        parts = (self.codes, self.table, self.scale, self.offset)
        return sum(part.nbytes for part in parts)

    def dequantize(self) -> torch.Tensor:
        """Block scales float32 [N, K/B]."""
        block = torch.arange(self.codes.numel(), device=self.codes.device) // NESTED_BLOCK
        flat = self.table[self.codes.flatten().long()] * self.scale[block] + self.offset[block]
        return flat.view(self.codes.shape)


BlockScales: TypeAlias = torch.Tensor | NestedScales
"""float32 [N, K/B], or the same in 8 bits."""


@dataclass(frozen=True, slots=True)
class CodebookWeight:
    """`w = table[q] * block scale`: packed uint8 [N, K/2], low nibble first; table float32 [16]."""

    packed: torch.Tensor
    table: torch.Tensor
    scales: BlockScales
    block_size: int

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.packed.shape[0], self.packed.shape[1] * 2

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.packed.nbytes + self.table.nbytes + self.scales.nbytes

    def codes(self) -> torch.Tensor:
        """uint8 [N, K], 0 to 15."""
        return unpack_nibbles(self.packed)

    def block_scales(self) -> torch.Tensor:
        """float32 [N, K/B]."""
        scales = self.scales
        return scales.dequantize() if isinstance(scales, NestedScales) else scales

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """[N, K] in `dtype`, multiplied in float32."""
        n, k = self.shape
        # A byte is two values of the table: they are looked up as one.
        byte = torch.arange(256, device=self.table.device)
        table = self.table.float()
        pairs = torch.stack((table[byte & 15], table[byte >> 4]), dim=-1).view(torch.int64)[:, 0]
        values = pairs.index_select(0, self.packed.flatten().int()).view(torch.float32)
        scaled = values.view(n, -1, self.block_size).mul_(self.block_scales()[..., None])
        return scaled.view(n, k).to(dtype)

    def take_rows(self, rows: torch.Tensor) -> CodebookWeight:
        """The rows [R] in that order; scales of scales cannot be parted, so they are resolved."""
        scales = self.block_scales().index_select(0, rows)
        return CodebookWeight(
            self.packed.index_select(0, rows), self.table, scales, self.block_size
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parts by name, for the disk."""
        parts = {"packed": self.packed, "table": self.table}
        if isinstance(self.scales, NestedScales):
            return parts | {
                "scale_codes": self.scales.codes,
                "scale_table": self.scales.table,
                "scale_scale": self.scales.scale,
                "scale_offset": self.scales.offset,
            }
        return parts | {"scale": self.scales}
