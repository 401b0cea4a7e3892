"""Cached vectors to codes and back, in torch: every device's prefill, and the CPU's decode.

A vector is one token's D values of one KV head. fp8: e4m3 bits and a float16 scale; int8, int4:
codes and float16 (scale, minimum), x ~ code * scale + minimum. Byte j of an int4 vector holds value
j below and value j + D / 2 above. Codes answer to scale and minimum as stored; a vector too flat
for a scale gets scale 0 and code 0.
"""

from __future__ import annotations

import torch

from quantchat.kv_formats import VectorFormat

_LEVELS = {"int8": 255, "int4": 15}
_FP8_MAX = 448.0
"""Largest finite e4m3 value."""


def stored_width(head_dim: int, form: VectorFormat) -> int:
    """Elements of a stored vector."""
    return head_dim // 2 if form == "int4" else head_dim


def quantize_kv(x: torch.Tensor, form: VectorFormat) -> tuple[torch.Tensor, torch.Tensor]:
    """x [..., D] -> uint8 [..., width] and float16 [..., VECTOR_PARAMS]."""
    x = x.float()
    if form == "fp8":
        params = (x.abs().amax(dim=-1, keepdim=True) / _FP8_MAX).to(torch.float16)
        steps = (x * _inverse(params.float())).clamp_(-_FP8_MAX, _FP8_MAX)
        return steps.to(torch.float8_e4m3fn).view(torch.uint8), params
    levels = _LEVELS[form]
    low, high = x.aminmax(dim=-1, keepdim=True)
    params = torch.cat(((high - low) / levels, low), dim=-1).to(torch.float16)
    scale, minimum = params[..., :1].float(), params[..., 1:].float()
    codes = ((x - minimum) * _inverse(scale)).round_().clamp_(0, levels).to(torch.uint8)
    if form == "int4":
        below, above = codes.chunk(2, dim=-1)
        codes = below | (above << 4)
    return codes, params


def dequantize_kv(
    stored: torch.Tensor, params: torch.Tensor, form: VectorFormat, dtype: torch.dtype
) -> torch.Tensor:
    """The values that stored vectors stand for: [..., D]."""
    if form == "fp8":
        return stored.view(torch.float8_e4m3fn).float().mul_(params.float()).to(dtype)
    if form == "int4":
        stored = torch.cat((stored & 15, stored >> 4), dim=-1)
    return stored.float().mul_(params[..., :1].float()).add_(params[..., 1:].float()).to(dtype)


def _inverse(scale: torch.Tensor) -> torch.Tensor:
    return torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))
