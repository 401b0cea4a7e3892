"""4-bit codes that expand to int8 codes, which one scale a row turns into weights.

The stored format of QoQ (QServe, 2405.04532): `w = (q - zero) * group_scale * scale`, where the
first two factors stay within int8.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quantchat.quant.pack import unpack_nibbles


@dataclass(frozen=True, slots=True)
class ProgressiveWeight:
    """packed uint8 [N, K/2], low nibble first; scale float32 [N].

    group_scale uint8 [N, K/g], 1 to 17, and group_zero uint8 [N, K/g], 0 to 15. Per channel
    quantization is one group of K with group_scale 1.
    """

    packed: torch.Tensor
    scale: torch.Tensor
    group_scale: torch.Tensor
    group_zero: torch.Tensor
    group_size: int

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.packed.shape[0], self.packed.shape[1] * 2

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        parts = (self.packed, self.scale, self.group_scale, self.group_zero)
        return sum(part.nbytes for part in parts)

    def codes(self) -> torch.Tensor:
        """uint8 [N, K], 0 to 15."""
        return unpack_nibbles(self.packed)

    def expand(self) -> torch.Tensor:
        """int8 [N, K]: what int8 products multiply; the protective range keeps it within int8."""
        n, k = self.shape
        q = self.codes().view(n, -1, self.group_size).to(torch.int16)
        wide = (q - self.group_zero[..., None]) * self.group_scale[..., None]
        return wide.view(n, k).to(torch.int8)

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """[N, K] in `dtype`, multiplied in float32."""
        return (self.expand().float() * self.scale[:, None]).to(dtype)

    def take_rows(self, rows: torch.Tensor) -> ProgressiveWeight:
        """The rows [R] in that order."""
        return ProgressiveWeight(
            self.packed.index_select(0, rows),
            self.scale.index_select(0, rows),
            self.group_scale.index_select(0, rows),
            self.group_zero.index_select(0, rows),
            self.group_size,
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parts by name, for the disk."""
        return {
            "packed": self.packed,
            "scale": self.scale,
            "group_scale": self.group_scale,
            "group_zero": self.group_zero,
        }
