"""From dense weights to codes: absmax int8 rows, fp8 rows, least-squares int4 groups.

Runs on the weight's device, in slices that stay in a CPU's cache or a GPU's spare memory.
"""

from __future__ import annotations

from typing import Protocol

import torch

from quantchat.quant.pack import pack_nibbles
from quantchat.quant.slices import each_slice, row_slices
from quantchat.quant.tensor import Fp8ChannelWeight, Int4GroupWeight, Int8ChannelWeight

SHRINKS = (1.0, 0.8)
"""Starting ranges tried for a group, as shares of its full range."""
REFITS = 3
"""Rounds of (assign codes, refit scale and offset) from each start."""
FP8_MAX = 448.0
FP8_TOP_EXPONENT = 9
"""Values below 2^9 with one or two significant bits are at most 448."""
FP8_STRETCHES = (1.0, 2**0.25, 2**0.5, 2**0.75)
"""Scales tried for an fp8 row, over max|w| / 448: a whole octave gives the same codes again."""


class Int4Rounding(Protocol):
    """A way from float32 [N, K] to groups; `importance` [K] weighs the error of each input."""

    def __call__(
        self, weight: torch.Tensor, group_size: int, importance: torch.Tensor | None = None, /
    ) -> Int4GroupWeight: ...


def int8_channel(weight: torch.Tensor) -> Int8ChannelWeight:
    """Absmax rounding of each row: scale = max|w| / 127. weight [N, K] float.

    Scales are rounded up to a bfloat16 value, which every kernel takes without further loss.
    """
    n, _ = weight.shape
    codes = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scale = torch.empty(n, dtype=torch.float32, device=weight.device)

    def fit(rows: slice) -> None:
        w = weight[rows].float()
        s = (w.abs().amax(dim=1) / 127).clamp_min(1e-12)
        s = (s * (1 + 2**-8)).to(torch.bfloat16).float()
        codes[rows] = (w / s[:, None]).round_().clamp_(-127, 127).to(torch.int8)
        scale[rows] = s

    each_slice(weight, 1, fit)
    return Int8ChannelWeight(codes, scale)


def int8_vectorwise(weight: torch.Tensor) -> Int8ChannelWeight:
    """Absmax rounding of each row as LLM.int8() has it (2208.07339): scale = max|w| / 127, unrounded.

    Codes are those of bitsandbytes' int8_vectorwise_quant, bit for bit. weight [N, K] float.
    """
    n, _ = weight.shape
    codes = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scale = torch.empty(n, dtype=torch.float32, device=weight.device)
    for rows in row_slices(weight, 1):
        w = weight[rows].float()
        largest = w.abs().amax(dim=1)
        steps = torch.where(largest > 0, 127 / largest, torch.zeros_like(largest))
        codes[rows] = (w * steps[:, None]).round_().to(torch.int8)
        scale[rows] = largest / 127
    return Int8ChannelWeight(codes, scale)


def fp8_channel(weight: torch.Tensor) -> Fp8ChannelWeight:
    """E4M3FN rounding of each row, with the scale of least squared error. weight [N, K] float.

    Scales start at max|w| / 448 and stretch over one octave, so that nothing is clipped. Against
    the first of them the squared error falls by 3 % for normal weights, as steps of a float grow
    with the value; on the starter model, whose rows hold few values, KL falls by a fifth.
    """
    n, _ = weight.shape
    codes = torch.empty(weight.shape, dtype=torch.uint8, device=weight.device)
    scale = torch.empty(n, dtype=torch.float32, device=weight.device)
    for rows in row_slices(weight, 2):
        w = weight[rows].float()
        lowest = (w.abs().amax(dim=1, keepdim=True) / FP8_MAX).clamp_min(1e-12)
        best_error = torch.full_like(lowest, float("inf"))
        best_scale = lowest
        for stretch in FP8_STRETCHES:
            s = lowest * stretch
            error = (fp8_round(w / s).float() * s - w).square_().sum(dim=1, keepdim=True)
            better = error < best_error
            best_error = torch.where(better, error, best_error)
            best_scale = torch.where(better, s, best_scale)
        codes[rows] = fp8_round(w / best_scale).view(torch.uint8)
        scale[rows] = best_scale.squeeze(1)
    return Fp8ChannelWeight(codes, scale)


def fp8_exactly(weight: torch.Tensor) -> Fp8ChannelWeight | None:
    """The same values as fp8 rows with powers of two as scales; None where they do not fit.

    weight [N, K] float32, of few significant bits as values of 4-bit floats are.
    """
    n, _ = weight.shape
    codes = torch.empty(weight.shape, dtype=torch.uint8, device=weight.device)
    scale = torch.empty(n, dtype=torch.float32, device=weight.device)
    for rows in row_slices(weight, 2):
        w = weight[rows]
        exponent = torch.frexp(w.abs().amax(dim=1)).exponent
        s = torch.ldexp(torch.ones_like(scale[rows]), exponent - FP8_TOP_EXPONENT)
        floats = fp8_round(w / s[:, None])
        if not torch.equal(floats.float() * s[:, None], w):
            return None
        codes[rows], scale[rows] = floats.view(torch.uint8), s
    return Fp8ChannelWeight(codes, scale)


def fp8_round(values: torch.Tensor) -> torch.Tensor:
    """Nearest float8_e4m3fn; beyond 448 it is 448, where a bare cast gives NaN."""
    return values.clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn)


def int4_group(
    weight: torch.Tensor, group_size: int, importance: torch.Tensor | None = None, /
) -> Int4GroupWeight:
    """Least-squares rounding of groups: min over q, s, o of sum a (w - q s - o)^2.

    `a` is the importance of each input, float32 [K] above 0: its mean square, so that the sum
    stands for the error of the output; None takes all as equal. Alternates between the nearest
    code and the closed-form fit of (s, o), from several clipped ranges, keeping each group's best;
    the fit ends on values as stored (float16), so that the last codes answer to what the kernel
    will use. weight [N, K] float, K % group_size == 0.
    """
    n, k = weight.shape
    assert k % group_size == 0
    groups = k // group_size
    device = weight.device
    packed = torch.empty((n, k // 2), dtype=torch.uint8, device=device)
    scale = torch.empty((n, groups), dtype=torch.float16, device=device)
    offset = torch.empty((n, groups), dtype=torch.float16, device=device)
    shares = torch.ones(k, device=device) if importance is None else importance.float()
    shares = shares.view(1, groups, group_size)
    shares = shares / shares.sum(dim=-1, keepdim=True)

    def fit(rows: slice) -> None:
        w = weight[rows].float().view(-1, groups, group_size)
        codes, s, o = _fit(w, shares)
        packed[rows] = pack_nibbles(codes.view(-1, k))
        scale[rows] = s.squeeze(-1)
        offset[rows] = o.squeeze(-1)

    each_slice(weight, len(SHRINKS), fit)
    return Int4GroupWeight(packed, scale, offset, group_size)


def _fit(w: torch.Tensor, shares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes uint8 [R, G, g], scale and offset float16 [R, G, 1] of w float32 [R, G, g].

    shares [1, G, g] weigh the error and add up to 1 in each group.
    """
    low, high = w.aminmax(dim=-1, keepdim=True)
    w_mean = (w * shares).sum(dim=-1, keepdim=True)
    w_part = (w - w_mean) * shares
    best_error = torch.full_like(low, float("inf"))
    # What float16 does not hold, or is no number, must not become a weight like others.
    best_scale = torch.full_like(low, float("nan"))
    best_offset = best_scale
    for shrink in SHRINKS:
        margin = (high - low) * ((1 - shrink) / 2)
        scale = ((high - low) * (shrink / 15)).clamp_min(1e-9)
        offset = low + margin
        for _ in range(REFITS):
            q = _codes(w, scale, offset)
            q_mean = (q * shares).sum(dim=-1, keepdim=True)
            covariance = (q * w_part).sum(dim=-1, keepdim=True)
            variance = q.sub_(q_mean).square_().mul_(shares).sum(dim=-1, keepdim=True)
            fitted = covariance / variance.clamp_min(1e-9)
            scale = torch.where((variance > 1e-9) & (fitted > 0), fitted, scale)
            offset = w_mean - scale * q_mean
        scale = scale.to(torch.float16).float()
        offset = offset.to(torch.float16).float()
        q = _codes(w, scale, offset)
        error = (q * scale + offset - w).square_().mul_(shares).sum(dim=-1, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
        best_offset = torch.where(better, offset, best_offset)
    codes = _codes(w, best_scale, best_offset).to(torch.uint8)
    return codes, best_scale.to(torch.float16), best_offset.to(torch.float16)


def _codes(w: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Nearest code of each weight, as floats 0 to 15; a zero scale gives code 0."""
    inverse = torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))
    return ((w - offset) * inverse).round_().clamp_(0, 15)
