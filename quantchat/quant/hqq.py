"""int4 groups by others' ways: round to nearest, and HQQ. Ours, in rounding, has to beat them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from quantchat.quant.slices import row_slices
from quantchat.quant.tensor import Int4GroupWeight, int4_group_weight

HQQ_ITERATIONS = 20
HQQ_P = 0.7
HQQ_BETA = 10.0
HQQ_KAPPA = 1.01


def nearest(
    weight: torch.Tensor, group_size: int, importance: torch.Tensor | None = None, /
) -> Int4GroupWeight:
    """Round to nearest between each group's smallest and largest weight. weight [N, K]."""

    def fit(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        low, high = w.aminmax(dim=-1, keepdim=True)
        scale = ((high - low) / 15).clamp_min(1e-7).half().float()
        offset = low.half().float()
        return ((w - offset) / scale).round_().clamp_(0, 15), scale, offset

    return _by_slices(weight, group_size, fit)


def hqq(
    weight: torch.Tensor, group_size: int, importance: torch.Tensor | None = None, /
) -> Int4GroupWeight:
    """Half-quadratic quantization (Badri and Shaji 2023): the zero point moves, the scale stays."""

    def fit(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        low, high = w.aminmax(dim=-1, keepdim=True)
        span = high - low
        inverse = torch.where(span > 1e-4, 15 / span.clamp_min(1e-9), 1.0).clamp_max(2e4)
        zero = -low * inverse
        beta = HQQ_BETA
        for _ in range(HQQ_ITERATIONS):
            q = (w * inverse + zero).round_().clamp_(0, 15)
            error = w - (q - zero) / inverse
            size = error.abs()
            shrunk = (size - size.clamp_min(1e-8).pow(HQQ_P - 1) / beta).relu_() * error.sign()
            zero = (q - (w - shrunk) * inverse).mean(dim=-1, keepdim=True)
            beta *= HQQ_KAPPA
        q = (w * inverse + zero).round_().clamp_(0, 15)
        return q, 1 / inverse, -zero / inverse

    return _by_slices(weight, group_size, fit)


def _by_slices(
    weight: torch.Tensor,
    group_size: int,
    fit: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
) -> Int4GroupWeight:
    k = weight.shape[1]
    assert k % group_size == 0
    codes: list[torch.Tensor] = []
    scales: list[torch.Tensor] = []
    offsets: list[torch.Tensor] = []
    for rows in row_slices(weight, 8):
        q, scale, offset = fit(weight[rows].float().view(-1, k // group_size, group_size))
        codes.append(q.to(torch.uint8).view(-1, k))
        scales.append(scale.squeeze(-1))
        offsets.append(offset.squeeze(-1))
    return int4_group_weight(torch.cat(codes), torch.cat(scales), torch.cat(offsets), group_size)
