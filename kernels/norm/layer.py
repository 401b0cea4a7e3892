"""Layer norm of rows with 16-bit output, alone or of a sum that becomes the new residual."""

from __future__ import annotations

import torch

from .rows import norm_rows


def layer_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    eps: float,
    *,
    out: torch.Tensor | None = None,
    dependent: bool = False,
) -> torch.Tensor:
    """x [M, K] less its mean over its deviation, times weight [K] plus bias [K] -> [M, K]."""
    return norm_rows(x, weight, eps, bias=bias, center=True, out=out, dependent=dependent).values


def add_layer_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    eps: float,
    *,
    out: torch.Tensor | None = None,
    total: torch.Tensor | None = None,
    dependent: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(layer_norm of x + residual, x + residual), all [M, K]; `total` may be `residual`."""
    made = norm_rows(
        x,
        weight,
        eps,
        bias=bias,
        residual=residual,
        center=True,
        out=out,
        total=total,
        dependent=dependent,
    )
    assert made.total is not None
    return made.values, made.total
