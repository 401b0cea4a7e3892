"""RMS and layer norms in plain torch: the truth that the kernels are held to.

Llama's arithmetic of the RMS norm: the normalised value is taken in fp32 and rounded to the
activations' dtype, then multiplied by the weight, then rounded again. The others round once.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch

StreamKind: TypeAlias = Literal["rms", "rms_float", "layer"]
"""RMS that is rounded before it is multiplied by its weight, or after; layer norm."""


class RowNorm(NamedTuple):
    """Vectors of a norm, fp32 [K]."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None


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


def stream_norm(
    residual: torch.Tensor,
    made: tuple[torch.Tensor, ...],
    *,
    kind: StreamKind,
    eps: float,
    dtype: torch.dtype,
    behind: RowNorm | None = None,
    ahead: RowNorm | None = None,
    scale: float = 1.0,
    fresh: bool = False,
) -> torch.Tensor:
    """residual += scale * norm(sum of made); -> its norm in `dtype` [M, K]; see stream.py."""
    if made:
        total = made[0].float() if len(made) == 1 else made[0].float() + made[1].float()
        if behind is not None:
            total = _stream_normed(total, behind, kind, eps, dtype).float()
        total = total * scale
        residual.copy_(total if fresh else residual + total)
    if ahead is None:
        return residual.to(dtype)
    return _stream_normed(residual, ahead, kind, eps, dtype)


def _stream_normed(
    x: torch.Tensor, norm: RowNorm, kind: StreamKind, eps: float, dtype: torch.dtype
) -> torch.Tensor:
    if kind == "layer":
        return torch.nn.functional.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, eps).to(
            dtype
        )
    normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    weight = norm.weight
    if kind == "rms":
        normed, weight = normed.to(dtype).float(), weight.to(dtype).float()
    made = normed * weight
    return (made if norm.bias is None else made + norm.bias).to(dtype)
