"""RMS norm of rows with 16-bit output, alone or of a sum that becomes the new residual."""

from __future__ import annotations

import torch

from .rows import norm_rows


def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    *,
    out: torch.Tensor | None = None,
    dependent: bool = False,
) -> torch.Tensor:
    """x [M, K] over the root of its mean square, times weight [K] -> [M, K]; as in reference.py."""
    return norm_rows(x, weight, eps, out=out, dependent=dependent).values


def add_rms_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    *,
    out: torch.Tensor | None = None,
    total: torch.Tensor | None = None,
    dependent: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(rms_norm of x + residual, x + residual), all [M, K]; `total` may be `residual`."""
    made = norm_rows(x, weight, eps, residual=residual, out=out, total=total, dependent=dependent)
    assert made.total is not None
    return made.values, made.total
