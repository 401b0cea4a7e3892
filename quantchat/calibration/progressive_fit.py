"""Steps and zero points of QoQ's groups, fitted to what comes out of a linear on calibration text.

QServe's clip search (2405.04532) shrinks a group's range where that lowers the output's error. Here
the error is summed in closed form from the inputs' Gram matrix, and a step is what it is stored as,
a whole number of int8 codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quantchat.quant.progressive_rounding import (
    LARGEST_STEP,
    PROTECTED_RANGE,
    SMALLEST_SCALE,
    range_with_zero,
)
from quantchat.quant.slices import row_slices

SHRINKS = tuple(1 - 0.03 * i for i in range(13))
"""Shares of a group's range that are tried."""
CHANNEL_BLOCK = 128
"""Inputs whose errors are taken together where a whole row is one group."""


@dataclass(frozen=True, slots=True, eq=False)
class ProgressiveFit:
    """What codes of a weight [N, K] mean: w = (q - zero) * step * scale.

    scale float32 [N]; step and zero float32 [N, K/size], whole numbers.
    """

    scale: torch.Tensor
    step: torch.Tensor
    zero: torch.Tensor
    size: int
    bound: float
    """Largest magnitude of w / scale that is rounded; what is beyond is cut."""


def fit_progressive(
    weight: torch.Tensor,
    gram: torch.Tensor,
    group_size: int,
    *,
    shrinks: tuple[float, ...] = SHRINKS,
) -> ProgressiveFit:
    """Fit weight float32 [N, K] whose inputs have the Gram matrix float32 [K, K].

    Groups of `group_size` along K, or whole rows for 0.
    """
    n, k = weight.shape
    if group_size == 0:
        return _fit_rows(weight, gram, shrinks)
    groups = k // group_size
    blocks = _diagonal_blocks(gram, group_size)
    scale = _storable(weight.abs().amax(dim=1) / PROTECTED_RANGE)
    step = torch.empty((n, groups), dtype=torch.float32, device=weight.device)
    zero = torch.empty_like(step)
    for rows in row_slices(weight, 6):
        wide = (weight[rows] / scale[rows, None]).view(-1, groups, group_size).transpose(0, 1)
        step[rows], zero[rows] = _fit_groups(wide.contiguous(), blocks, shrinks)
    return ProgressiveFit(scale, step, zero, group_size, PROTECTED_RANGE)


def _fit_groups(
    wide: torch.Tensor, blocks: torch.Tensor, shrinks: tuple[float, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Step and zero point [R, G] of w / scale [G, R, g] with the blocks [G, g, g] of the Gram."""
    low, high = range_with_zero(wide)
    best_step, best_zero = torch.ones_like(low), torch.zeros_like(low)
    least = torch.full_like(low, float("inf"))
    for shrink in shrinks:
        step = ((high - low) * (shrink / 15)).round_().clamp_(1, LARGEST_STEP)
        zero = (low * shrink / step).round_().neg_().clamp_(0, 15)
        error = _error(wide, step, zero, blocks)
        better = error < least
        least = torch.where(better, error, least)
        best_step = torch.where(better, step, best_step)
        best_zero = torch.where(better, zero, best_zero)
    return best_step[..., 0].t(), best_zero[..., 0].t()


def _fit_rows(
    weight: torch.Tensor, gram: torch.Tensor, shrinks: tuple[float, ...]
) -> ProgressiveFit:
    """One group a row: the step is 1, and the scale is what shrinks."""
    n, k = weight.shape
    size = CHANNEL_BLOCK if k % CHANNEL_BLOCK == 0 else k & -k
    blocks = _diagonal_blocks(gram, size)
    scale = torch.empty(n, dtype=torch.float32, device=weight.device)
    zero = torch.empty((n, 1), dtype=torch.float32, device=weight.device)
    for rows in row_slices(weight, 6):
        w = weight[rows].view(-1, k // size, size).transpose(0, 1).contiguous()
        low, high = range_with_zero(weight[rows])
        least = torch.full_like(low, float("inf"))
        best_scale, best_zero = torch.ones_like(low), torch.zeros_like(low)
        for shrink in shrinks:
            s = _storable((high - low) * (shrink / 15))
            z = (low * shrink / s).round_().neg_().clamp_(0, 15)
            error = _error(w / s, torch.ones_like(s), z, blocks).sum(dim=0) * s.square()
            better = error < least
            least = torch.where(better, error, least)
            best_scale = torch.where(better, s, best_scale)
            best_zero = torch.where(better, z, best_zero)
        scale[rows], zero[rows] = best_scale[:, 0], best_zero
    return ProgressiveFit(scale, torch.ones_like(zero), zero, k, float("inf"))


def _storable(scale: torch.Tensor) -> torch.Tensor:
    """Scales rounded up to bfloat16 values, which every kernel takes without further loss."""
    return (scale.clamp_min(SMALLEST_SCALE) * (1 + 2**-8)).to(torch.bfloat16).float()


def _error(
    wide: torch.Tensor, step: torch.Tensor, zero: torch.Tensor, blocks: torch.Tensor
) -> torch.Tensor:
    """Mean square of what each group's rounding adds to the output: [G, R, 1]."""
    q = (wide / step).round_().add_(zero).clamp_(0, 15)
    off = q.sub_(zero).mul_(step).sub_(wide)
    return ((off @ blocks) * off).sum(dim=-1, keepdim=True)


def _diagonal_blocks(gram: torch.Tensor, size: int) -> torch.Tensor:
    """[K/size, size, size]."""
    count = gram.shape[0] // size
    parts = gram.reshape(count, size, count, size).diagonal(dim1=0, dim2=2)
    return parts.permute(2, 0, 1).contiguous()
