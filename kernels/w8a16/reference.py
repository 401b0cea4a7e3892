"""int8 weights per output channel in plain torch: the truth that the kernels are held to."""

from __future__ import annotations

import torch


def gemv(
    x: torch.Tensor,
    codes: torch.Tensor,
    scale: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """x [M, K] times the transposed weights, plus bias [N], in fp32 -> [M, N]."""
    total = (x.float() @ codes.float().t()) * scale.float()[None, :]
    if bias is not None:
        total = total + bias.float()
    return total.to(x.dtype)
