"""Head norm, rotary embedding and cache write in plain torch: the truth for the kernel.

Rotary pairs are adjacent (2i, 2i + 1). The head norm rounds as norm/reference.py does; the turn is
fp32 and rounds once, and so is a Hadamard rotation after it. Codes answer to scale and minimum as
stored, in fp16; a vector too flat for a scale has scale 0 and codes 0.
"""

from __future__ import annotations

import torch

from ..norm.reference import rms_norm
from .formats import FP8_MAX, LEVELS, ROTATED, VECTORS, KvFormat, VectorFormat, stored_width


def quantize_heads(x: torch.Tensor, form: VectorFormat) -> tuple[torch.Tensor, torch.Tensor]:
    """x [..., D] -> stored vectors uint8 [..., width] and params fp16 [..., PARAMS]."""
    wide = x.float()
    if form == "fp8":
        params = (wide.abs().amax(-1, keepdim=True) / FP8_MAX).to(torch.float16)
        steps = (wide * _inverse(params.float())).clamp(-FP8_MAX, FP8_MAX)
        return steps.to(torch.float8_e4m3fn).view(torch.uint8), params
    levels = LEVELS[form]
    low, high = wide.amin(-1), wide.amax(-1)
    params = torch.stack(((high - low) / levels, low), dim=-1).to(torch.float16)
    scale, minimum = params.float().unbind(-1)
    steps = (wide - minimum[..., None]) * _inverse(scale)[..., None]
    codes = torch.round(steps).clamp(0, levels).to(torch.uint8)
    if form == "int4":
        below, above = codes.chunk(2, dim=-1)
        codes = below | (above << 4)
    return codes, params


def _inverse(scale: torch.Tensor) -> torch.Tensor:
    return torch.where(scale == 0, 0.0, 1 / scale)


def dequantize_heads(
    stored: torch.Tensor, params: torch.Tensor, form: VectorFormat, dtype: torch.dtype
) -> torch.Tensor:
    """Inverse of quantize_heads, in fp32, cast to dtype: [..., D]."""
    wide = params.float()
    if form == "fp8":
        return (stored.view(torch.float8_e4m3fn).float() * wide).to(dtype)
    if form == "int4":
        stored = torch.cat((stored & 15, stored >> 4), dim=-1)
    return (stored.float() * wide[..., :1] + wide[..., 1:]).to(dtype)


def rotate(
    x: torch.Tensor, positions: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """x [M, H, D] with its first 2 R values a head turned; cos, sin fp32 [context, R]."""
    rotary = 2 * cos.shape[1]
    c, s = cos[positions.long()][:, None, :], sin[positions.long()][:, None, :]
    wide = x.float()
    even, odd = wide[..., 0:rotary:2], wide[..., 1:rotary:2]
    turned = torch.stack((even * c - odd * s, even * s + odd * c), dim=-1).flatten(-2)
    return torch.cat((turned, wide[..., rotary:]), dim=-1).to(x.dtype)


def hadamard_heads(x: torch.Tensor) -> torch.Tensor:
    """x [..., D] times H, H[i, j] = (-1)^popcount(i & j) / sqrt(D), in sums of pairs 1, 2, 4 apart.

    fp32, rounded once; D is a power of two.
    """
    wide, half = x.float(), 1
    while half < x.shape[-1]:
        low, high = wide.unflatten(-1, (-1, 2, half)).unbind(-2)
        wide = torch.stack((low + high, low - high), dim=-2).flatten(-3)
        half *= 2
    scale: float = x.shape[-1] ** -0.5
    return (wide * scale).to(x.dtype)


def turn(
    qkv: torch.Tensor,
    positions: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    *,
    heads: int,
    kv_heads: int,
    kv: KvFormat,
    q_weight: torch.Tensor | None = None,
    k_weight: torch.Tensor | None = None,
    eps: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q [M, heads, D] and k [M, Hk, D] as they meet in a product, and v [M, Hk, D] as it came."""
    head_dim = qkv.shape[1] // (heads + 2 * kv_heads)
    q, k, v = qkv.view(qkv.shape[0], -1, head_dim).split((heads, kv_heads, kv_heads), dim=1)
    if q_weight is not None and k_weight is not None:
        q, k = rms_norm(q, q_weight, eps), rms_norm(k, k_weight, eps)
    q, k = rotate(q, positions, cos, sin), rotate(k, positions, cos, sin)
    if kv in ROTATED:
        q, k = hadamard_heads(q), hadamard_heads(k)
    return q, k, v


def rope_append(
    qkv: torch.Tensor,
    positions: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    slots: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    *,
    heads: int,
    kv: KvFormat = "16bit",
    k_params: torch.Tensor | None = None,
    v_params: torch.Tensor | None = None,
    q_weight: torch.Tensor | None = None,
    k_weight: torch.Tensor | None = None,
    eps: float = 0.0,
) -> torch.Tensor:
    """Writes K and V of every token with slot >= 0 and returns rotated q [M, heads, D]; see append.py."""
    kv_heads = k_cache.shape[2]
    head_dim = qkv.shape[1] // (heads + 2 * kv_heads)
    q, k, v = turn(
        qkv,
        positions,
        cos,
        sin,
        heads=heads,
        kv_heads=kv_heads,
        kv=kv,
        q_weight=q_weight,
        k_weight=k_weight,
        eps=eps,
    )
    keep = slots >= 0
    target = slots[keep]
    k_format, v_format = VECTORS[kv]
    both = ((k_cache, k_params, k, k_format), (v_cache, v_params, v, v_format))
    for cache, params, new, form in both:
        flat = cache.view(-1, kv_heads, stored_width(head_dim, form))
        if params is None:
            flat[target] = new[keep].to(cache.dtype)
        else:
            flat[target], fresh = quantize_heads(new[keep], form)
            params.view(-1, kv_heads, fresh.shape[-1])[target] = fresh
    return q
