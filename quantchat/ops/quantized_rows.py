"""Activations as 8-bit codes with one scale per row, made once for all linears that read them.

Owns the record and the torch path; the fused producers are kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from quantchat.kernels.quantize import reference
from quantchat.quant.scheme import OUTLIER_THRESHOLD, ActivationFormat

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


def quantize_rows(
    x: torch.Tensor, form: CodeFormat, given: torch.Tensor | None = None
) -> QuantizedRows:
    """Nearest codes of each row, its largest magnitude being the largest code. x [M, K] float.

    `given` float32 []: the scale of all rows, fixed before; what is beyond its codes is clipped.
    """
    return QuantizedRows(*reference.quantize_rows(x, form, given))


def threshold_of(activations: ActivationFormat) -> float | None:
    """Magnitude from which inputs are not rounded; None where all are."""
    return OUTLIER_THRESHOLD if activations == "int8_outliers" else None


def prepare_rows(
    x: torch.Tensor, activations: ActivationFormat
) -> tuple[torch.Tensor, torch.Tensor]:
    """x [M, K] as integers up to 127 in its own dtype, and float32 [M] that they are to be times.

    With int8_outliers what is not rounded is over the same scale: see kernels.quantize.reference.
    """
    pair: tuple[torch.Tensor, torch.Tensor] = reference.prepare_rows(
        x, threshold=threshold_of(activations)
    )
    return pair
