"""Decode linears with what surrounds them, in plain torch: the truth for the kernel."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch

Gate: TypeAlias = Literal["silu", "gelu_tanh"]
"""What the upper half goes through before the lower one is multiplied with it."""
PARTIAL_COLUMNS = 16
"""Residual values of one partial sum of squares."""


def squares_of(residual: torch.Tensor) -> torch.Tensor:
    """Partial sums of squares fp32 [M, ceil(C / 16)] of a residual [M, C]."""
    wide = residual.float()
    wide = torch.nn.functional.pad(wide, (0, -wide.shape[1] % PARTIAL_COLUMNS))
    return wide.view(wide.shape[0], -1, PARTIAL_COLUMNS).square().sum(-1)


def scaled_by_gamma(residual: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """residual [M, C] times gamma [C], within the range of its dtype: a norm yet to be divided."""
    limit = torch.finfo(residual.dtype).max
    return (residual.float() * gamma.float()).clamp(-limit, limit).to(residual.dtype)


def linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    squares: torch.Tensor | None = None,
    eps: float = 0.0,
    row_scale: torch.Tensor | None = None,
    extra: torch.Tensor | None = None,
    gated: bool = False,
    gate: Gate = "silu",
) -> torch.Tensor:
    """x [M, K] times weight fp32 [N, K] -> fp32 [M, N], or [M, N / 2] of its gated half.

    With `squares` [M, ceil(K / 16)] the product is divided by the root mean square they sum to;
    `row_scale` [M] multiplies it instead. `extra` [M, N] is added to the product before; the
    kernel's scales of weight rows multiply it too, which are part of `weight` here.
    """
    y = x.float() @ weight.float().t()
    if extra is not None:
        y = y + extra
    if row_scale is not None:
        y = y * row_scale[:, None]
    if squares is not None:
        y = y / torch.sqrt(squares.sum(-1, keepdim=True) / x.shape[1] + eps)
    if bias is not None:
        y = y + bias.float()
    if gated:
        upper, lower = y.chunk(2, dim=-1)
        F = torch.nn.functional
        y = (F.silu(upper) if gate == "silu" else F.gelu(upper, approximate="tanh")) * lower
    return y
