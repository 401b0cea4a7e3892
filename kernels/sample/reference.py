"""Sampling in plain torch: the truth for the kernels and the product's own path without them.

A token's weight is 2^34 times its probability over the likeliest one's, cut to an integer: sums of
weights are exact in any order, so every path keeps and draws the same tokens. The exponential is
a polynomial of separately rounded products and sums, the same bits on every device.

Kept are: the first top_k tokens, those before which less than top_p of all weight lies, and those
of at least min_p of the first one's weight; first is the larger logit, then the lower id. The
draw is the kept token, counted by id, at a 24-bit share of the kept weight.
"""

from __future__ import annotations

import torch

WEIGHT_BITS = 34
"""The likeliest token weighs 2^34: the sum of 2^19 of them is exact in a double."""
DRAW_BITS = 24
LOG2_E = 1.4426950408889634
LOWEST_EXPONENT = -40.0
"""Where every weight is 0."""
EXP2_COEFFICIENTS = (
    1.0,
    0.6931517124176025,
    0.240159273147583,
    0.05581865459680557,
    0.008991030976176262,
    0.0018793009221553802,
)
"""2^f on [0, 1] within 2e-7, ascending powers; exact at both ends, rising between."""
INVERSE_RANGE = (1e-30, 1e30)
"""1 / temperature is held in here, so that 0 times it is 0."""


def inverse_temperature(temperature: torch.Tensor) -> torch.Tensor:
    """float32 -> its bounded reciprocal; 1 where it is 0 or less (greedy)."""
    inverse = (1 / temperature).clamp(*INVERSE_RANGE)
    return torch.where(temperature > 0, inverse, 1.0)


def float_weights(logits: torch.Tensor, top: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """The weights as float32, which holds them exactly; arguments as of `weights`."""
    exponent = ((logits - top) * inverse).mul_(LOG2_E).clamp_min_(LOWEST_EXPONENT)
    whole = exponent.floor()
    part = exponent.sub_(whole)
    value = part.mul(EXP2_COEFFICIENTS[-1])
    for coefficient in EXP2_COEFFICIENTS[-2:0:-1]:
        value.add_(coefficient).mul_(part)
    value.add_(EXP2_COEFFICIENTS[0])
    power = whole.to(torch.int32).add_(127 + WEIGHT_BITS).bitwise_left_shift_(23)
    return value.mul_(power.view(torch.float32)).floor_()


def weights(logits: torch.Tensor, top: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """int64 weights of float32 logits [..., V]; top, inverse [..., 1]: the largest, 1 / temperature."""
    return float_weights(logits, top, inverse).to(torch.int64)


def share(total: torch.Tensor, numerator: torch.Tensor) -> torch.Tensor:
    """floor(total * numerator / 2^24) of int64, without overflow below 2^62."""
    mask = (1 << DRAW_BITS) - 1
    return (total >> DRAW_BITS) * numerator + (((total & mask) * numerator) >> DRAW_BITS)


def top_p_limit(total: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Tokens before which less weight than this lies are kept; at least 1, so that one is."""
    whole = 1 << DRAW_BITS
    return share(total, (top_p * whole).to(torch.int64).clamp(0, whole)).clamp_min(1)


def min_p_weight(min_p: torch.Tensor) -> torch.Tensor:
    """The least weight kept."""
    whole = 1 << WEIGHT_BITS
    return (min_p * whole).to(torch.int64).clamp(0, whole)


def draw(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    bits: torch.Tensor,
) -> torch.Tensor:
    """Tokens int64 [B] from float32 logits [B, V] at the 24-bit numbers `bits` int64 [B].

    temperature, top_p, min_p: float32 [B]; top_k: int64 [B], at least 1.
    """
    ordered, ids = torch.sort(logits, dim=-1, descending=True, stable=True)
    w = weights(ordered, ordered[:, :1], inverse_temperature(temperature)[:, None])
    before = torch.cumsum(w, dim=-1) - w
    limit = top_p_limit(w.sum(dim=-1), top_p)
    rank = torch.arange(logits.shape[-1], device=logits.device)
    kept = (rank < top_k[:, None]) & (before < limit[:, None])
    kept &= w >= min_p_weight(min_p)[:, None]
    by_id = torch.zeros_like(w).scatter_(1, ids, torch.where(kept, w, 0))
    cumulated = torch.cumsum(by_id, dim=-1)
    target = share(cumulated[:, -1], bits)
    return (cumulated <= target[:, None]).sum(dim=-1)
