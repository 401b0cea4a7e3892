"""Head norm, rotary embedding and cache write in plain torch: the truth for the kernel.

Rotary pairs are adjacent (2i, 2i + 1). The head norm rounds as norm/reference.py does; the
rotation is fp32 and rounds once. int8 pages hold q = rint((x - minimum) / scale) with scale and
minimum as stored, in fp16: x ~ q * scale + minimum; a flat vector has scale 0 and codes 0.
"""

from __future__ import annotations

import torch

from ..norm.reference import rms_norm


def quantize_heads(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x [..., D] -> codes uint8 [..., D] and params fp16 [..., 2], scale and minimum of each vector."""
    wide = x.float()
    low, high = wide.amin(-1), wide.amax(-1)
    params = torch.stack(((high - low) / 255.0, low), dim=-1).to(torch.float16)
    scale, minimum = params.float().unbind(-1)
    flat = scale == 0
    steps = (wide - minimum[..., None]) / torch.where(flat, 1.0, scale)[..., None]
    codes = torch.where(flat[..., None], 0.0, torch.round(steps).clamp(0, 255))
    return codes.to(torch.uint8), params


def dequantize_heads(codes: torch.Tensor, params: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Inverse of quantize_heads: q * scale + minimum in fp32, cast to dtype."""
    wide = params.float()
    return (codes.float() * wide[..., :1] + wide[..., 1:]).to(dtype)


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
    k_params: torch.Tensor | None = None,
    v_params: torch.Tensor | None = None,
    q_weight: torch.Tensor | None = None,
    k_weight: torch.Tensor | None = None,
    eps: float = 0.0,
) -> torch.Tensor:
    """Writes K and V of every token with slot >= 0 and returns rotated q [M, heads, D]; see append.py."""
    kv_heads, head_dim = k_cache.shape[2], k_cache.shape[3]
    q, k, v = qkv.view(qkv.shape[0], -1, head_dim).split((heads, kv_heads, kv_heads), dim=1)
    if q_weight is not None and k_weight is not None:
        q, k = rms_norm(q, q_weight, eps), rms_norm(k, k_weight, eps)
    k = rotate(k, positions, cos, sin)
    keep = slots >= 0
    target = slots[keep]
    for cache, params, new in ((k_cache, k_params, k), (v_cache, v_params, v)):
        flat = cache.view(-1, kv_heads, head_dim)
        if params is None:
            flat[target] = new[keep].to(cache.dtype)
        else:
            codes, pairs = quantize_heads(new[keep])
            flat[target] = codes
            params.view(-1, kv_heads, 2)[target] = pairs
    return rotate(q, positions, cos, sin)
