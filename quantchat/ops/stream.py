"""The residual stream on its way through the layers, and what its next norm is owed."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(slots=True, kw_only=True, eq=False)
class Stream:
    """One pass's rows between two linears; ops alone read and change it.

    T rows, C hidden. Where a linear has left `scaled` and `squares`, the next one divides by the
    root mean square itself and no norm runs.
    """

    residual: torch.Tensor
    """[T, C] without `pending`."""
    pending: torch.Tensor | None = None
    """[T, C] yet to be added; the next norm does it."""
    scaled: torch.Tensor | None = None
    """residual * gamma of the next norm [T, C]."""
    squares: torch.Tensor | None = None
    """float32 [T, ceil(C / 16)]: sums of residual^2 over 16 columns each."""
