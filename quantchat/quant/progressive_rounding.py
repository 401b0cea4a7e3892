"""From dense weights to 4-bit codes that expand to int8 codes: QoQ's two levels (2405.04532).

Every range takes in 0, so that its zero point is a code. Rows first become int8 codes of at most
119, so that a group's codes, half a step off by rounding, expand to no more than 127.
"""

from __future__ import annotations

import torch

from quantchat.quant.pack import pack_nibbles
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.slices import row_slices

PROTECTED_RANGE = 119
"""127 less half of the widest step, 238 / 15, rounded up."""
LARGEST_STEP = 17
STEP_CHOICES = (0, -1, 1)
"""Steps tried for a group, from the paper's, a fifteenth of the range: 2 to 11 % less error."""
SMALLEST_SCALE = 1e-12


def progressive(
    weight: torch.Tensor, group_size: int, clip: torch.Tensor | None = None
) -> ProgressiveWeight:
    """Codes of weight [N, K] float in groups along K, K % group_size == 0, or by row for 0.

    clip, float32 [N, K/group_size] or [N, 1]: the largest magnitude that each group keeps; None
    clips nothing.
    """
    n, k = weight.shape
    size = group_size or k
    assert k % size == 0 and k % 2 == 0, (k, group_size)
    groups = k // size
    device = weight.device
    packed = torch.empty((n, k // 2), dtype=torch.uint8, device=device)
    scale = torch.empty(n, dtype=torch.float32, device=device)
    group_scale = torch.empty((n, groups), dtype=torch.uint8, device=device)
    group_zero = torch.empty((n, groups), dtype=torch.uint8, device=device)
    for rows in row_slices(weight, 8):
        w = weight[rows].float().view(-1, groups, size)
        if clip is not None:
            limit = clip[rows, :, None]
            w = torch.minimum(torch.maximum(w, -limit), limit)
        if group_size:
            s = _protected_scale(w)
            step, zero, q = fit_groups((w / s).round_())
        else:
            s = _row_scale(w)
            step = torch.ones_like(s)
            zero, q = group_codes(w / s, step)
        packed[rows] = pack_nibbles(q.to(torch.uint8).view(-1, k))
        scale[rows] = s.view(-1)
        group_scale[rows] = step.squeeze(-1).to(torch.uint8)
        group_zero[rows] = zero.squeeze(-1).to(torch.uint8)
    return ProgressiveWeight(packed, scale, group_scale, group_zero, size)


def _protected_scale(w: torch.Tensor) -> torch.Tensor:
    """Scale of each row [R, 1, 1] that puts w [R, G, g] within 119 steps of 0."""
    return (w.abs().amax(dim=(1, 2), keepdim=True) / PROTECTED_RANGE).clamp_min(SMALLEST_SCALE)


def _row_scale(w: torch.Tensor) -> torch.Tensor:
    """Scale of each row [R, 1, 1] whose 15 steps span w [R, 1, K] and 0."""
    low, high = range_with_zero(w)
    return ((high - low) / 15).clamp_min(SMALLEST_SCALE)


def fit_groups(codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Step, 1 to 17, zero point, 0 to 15, and 4-bit codes of whole codes [R, G, g] up to 119.

    Steps and zero points are [R, G, 1], all float32. Steps of least squared error are kept.
    """
    low, high = range_with_zero(codes)
    paper = ((high - low) / 15).round_()
    step, zero, q, least = paper, paper, codes, torch.full_like(paper, float("inf"))
    for choice in STEP_CHOICES:
        tried = (paper + choice).clamp_(1, LARGEST_STEP)
        its_zero, its_q = group_codes(codes, tried)
        error = ((its_q - its_zero) * tried - codes).square_().sum(dim=-1, keepdim=True)
        better = error < least
        step = torch.where(better, tried, step)
        zero = torch.where(better, its_zero, zero)
        q = torch.where(better, its_q, q)
        least = torch.where(better, error, least)
    return step, zero, q


def group_codes(values: torch.Tensor, step: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Zero point of each group [R, G, 1] and nearest codes of values [R, G, g], 0 to 15."""
    low, _ = range_with_zero(values)
    zero = (low / step).round_().neg_().clamp_(0, 15)
    return zero, (values / step).round_().add_(zero).clamp_(0, 15)


def range_with_zero(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Smallest and largest along the last axis, kept as 1, with 0 between them."""
    low, high = values.aminmax(dim=-1, keepdim=True)
    return low.clamp_max(0), high.clamp_min(0)
