"""Activations as 8-bit codes with one scale per row, made once for all linears that read them.

Owns the record and the torch path; the fused producers are kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from quantchat.kernels.quantize import reference

CodeFormat: TypeAlias = Literal["int8", "fp8"]


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedRows:
    """`x ~ codes * scale`: codes [M, K] int8 or float8_e4m3fn, scale float32 [M]."""

    codes: torch.Tensor
    scale: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(M, K)."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def form(self) -> CodeFormat:
        """What the codes are."""
        return "int8" if self.codes.dtype == torch.int8 else "fp8"

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """[M, K] in `dtype`."""
        dense: torch.Tensor = reference.dequantize_rows(self.codes, self.scale, dtype)
        return dense


def quantize_rows(x: torch.Tensor, form: CodeFormat) -> QuantizedRows:
    """Nearest codes of each row, its largest magnitude being the largest code. x [M, K] float."""
    return QuantizedRows(*reference.quantize_rows(x, form))
