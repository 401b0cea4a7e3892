"""RMS and layer norm in plain torch: the truth that the kernels are held to.

Llama's arithmetic of the RMS norm: the normalised value is taken in fp32 and rounded to the
activations' dtype, then multiplied by the weight, then rounded again. The layer norm rounds once.
"""

from __future__ import annotations

import torch


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x [M, K] over the root of its mean square, times weight [K] -> [M, K] of x's dtype."""
    wide = x.float()
    normed = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)
    return (normed.float() * weight.float()).to(x.dtype)


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(rms_norm of x + residual, x + residual), all [M, K]; the sum is rounded to x's dtype first."""
    total = (x.float() + residual.float()).to(x.dtype)
    return rms_norm(total, weight, eps), total


def layer_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float
) -> torch.Tensor:
    """x [M, K] less its mean over its deviation, times weight [K] plus bias [K] -> [M, K]."""
    wide = None if bias is None else bias.float()
    return torch.nn.functional.layer_norm(x.float(), x.shape[-1:], weight.float(), wide, eps).to(
        x.dtype
    )


def add_layer_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(layer_norm of x + residual, x + residual), all [M, K]; the sum is rounded first."""
    total = (x.float() + residual.float()).to(x.dtype)
    return layer_norm(total, weight, bias, eps), total
