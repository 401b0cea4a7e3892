"""From the fused qkv projection to a rotated query and a grown cache, in one launch.

One program a token and head: query heads are normed and turned, key heads also written, value
heads only written. Rounding is that of reference.py.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import check_activation, check_out, launch_options, power_of_2


@triton.jit
def _write(
    even,
    odd,
    cache_ptr,
    params_ptr,
    vector,
    i,
    m_i,
    D: tl.constexpr,
    INT8: tl.constexpr,
):
    p_cache = cache_ptr + vector * D + 2 * i
    if INT8:
        low = tl.min(
            tl.minimum(tl.where(m_i, even, float("inf")), tl.where(m_i, odd, float("inf")))
        )
        high = tl.max(
            tl.maximum(tl.where(m_i, even, -float("inf")), tl.where(m_i, odd, -float("inf")))
        )
        scale_16 = tl.div_rn(high - low, 255.0).to(tl.float16)
        minimum_16 = low.to(tl.float16)
        tl.store(params_ptr + vector * 2, scale_16)
        tl.store(params_ptr + vector * 2 + 1, minimum_16)
        scale = scale_16.to(tl.float32)
        minimum = minimum_16.to(tl.float32)
        step = tl.where(scale == 0.0, 1.0, scale)
        even = _code(even, minimum, step, scale)
        odd = _code(odd, minimum, step, scale)
    tl.store(p_cache, even.to(cache_ptr.dtype.element_ty), mask=m_i)
    tl.store(p_cache + 1, odd.to(cache_ptr.dtype.element_ty), mask=m_i)


@triton.jit
def _code(x, minimum, step, scale):
    steps = tl.div_rn(x - minimum, tl.zeros_like(x) + step)
    steps = tl.minimum(tl.maximum(steps, 0.0), 255.0)
    rounded = (steps + 12582912.0) - 12582912.0  # 1.5 * 2**23: half to even
    return tl.where(scale == 0.0, 0.0, rounded).to(tl.int32)


@triton.jit
def rope_append_kernel(
    qkv_ptr,
    positions_ptr,
    cos_ptr,
    sin_ptr,
    slots_ptr,
    q_out_ptr,
    k_cache_ptr,
    v_cache_ptr,
    k_params_ptr,
    v_params_ptr,
    q_weight_ptr,
    k_weight_ptr,
    eps,
    HQ: tl.constexpr,
    HK: tl.constexpr,
    D: tl.constexpr,
    HALF: tl.constexpr,
    ROTARY_HALF: tl.constexpr,
    INT8: tl.constexpr,
    HEAD_NORM: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    i = tl.arange(0, HALF)
    m_i = i < D // 2
    p_x = qkv_ptr + (token * (HQ + 2 * HK) + head) * D + 2 * i
    even = tl.load(p_x, mask=m_i, other=0.0).to(tl.float32)
    odd = tl.load(p_x + 1, mask=m_i, other=0.0).to(tl.float32)
    slot = tl.load(slots_ptr + token)
    dtype: tl.constexpr = q_out_ptr.dtype.element_ty
    if head < HQ + HK:
        if HEAD_NORM:
            inverse = 1.0 / tl.sqrt(tl.sum(even * even + odd * odd, 0) / D + eps)
            p_weight = q_weight_ptr + 2 * i
            if head >= HQ:
                p_weight = k_weight_ptr + 2 * i
            even = (even * inverse).to(dtype).to(tl.float32)
            odd = (odd * inverse).to(dtype).to(tl.float32)
            even = (even * tl.load(p_weight, mask=m_i, other=0.0).to(tl.float32)).to(dtype)
            odd = (odd * tl.load(p_weight + 1, mask=m_i, other=0.0).to(tl.float32)).to(dtype)
            even = even.to(tl.float32)
            odd = odd.to(tl.float32)
        position = tl.load(positions_ptr + token).to(tl.int64)
        m_r = i < ROTARY_HALF
        c = tl.load(cos_ptr + position * ROTARY_HALF + i, mask=m_r, other=1.0)
        s = tl.load(sin_ptr + position * ROTARY_HALF + i, mask=m_r, other=0.0)
        turned_even = (even * c - odd * s).to(dtype).to(tl.float32)
        turned_odd = (even * s + odd * c).to(dtype).to(tl.float32)
        if head < HQ:
            p_q = q_out_ptr + (token * HQ + head) * D + 2 * i
            tl.store(p_q, turned_even.to(dtype), mask=m_i)
            tl.store(p_q + 1, turned_odd.to(dtype), mask=m_i)
        elif slot >= 0:
            vector = slot * HK + (head - HQ)
            _write(turned_even, turned_odd, k_cache_ptr, k_params_ptr, vector, i, m_i, D, INT8)
    elif slot >= 0:
        vector = slot * HK + (head - HQ - HK)
        _write(even, odd, v_cache_ptr, v_params_ptr, vector, i, m_i, D, INT8)


def _check_cache(cache: torch.Tensor, params: torch.Tensor | None, dtype: torch.dtype) -> None:
    assert cache.ndim == 4 and cache.is_contiguous()
    if params is None:
        assert cache.dtype == dtype, f"cache is {cache.dtype}, activations {dtype}"
    else:
        assert cache.dtype == torch.uint8, f"cache is {cache.dtype} beside quantisation params"
        check_out(params, (*cache.shape[:3], 2), torch.float16)


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
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Writes K and V of each token into the paged cache; returns rotated q [M, heads, D].

    qkv [M, (heads + 2 Hk) * D] fp16 or bf16; positions int32 [M]; cos, sin fp32 [context, R] turn
    the first 2 R values of a head in adjacent pairs; slots int64 [M], page * page_tokens + place,
    -1 writes nothing. Caches [pages, page_tokens, Hk, D] in qkv's dtype, or uint8 with params
    fp16 [pages, page_tokens, Hk, 2]. q_weight and k_weight [D] norm each head first (both or none).
    """
    check_activation(qkv, "qkv")
    tokens = qkv.shape[0]
    kv_heads, head_dim = k_cache.shape[2], k_cache.shape[3]
    assert qkv.shape[1] == (heads + 2 * kv_heads) * head_dim, (qkv.shape, heads, k_cache.shape)
    assert head_dim % 2 == 0 and cos.shape[1] * 2 <= head_dim
    assert positions.shape == (tokens,) and positions.dtype == torch.int32
    assert slots.shape == (tokens,) and slots.dtype == torch.int64
    for table in (cos, sin):
        assert table.dtype == torch.float32 and table.is_contiguous() and table.shape == cos.shape
    assert v_cache.shape == k_cache.shape
    assert (k_params is None) == (v_params is None)
    assert (q_weight is None) == (k_weight is None)
    _check_cache(k_cache, k_params, qkv.dtype)
    _check_cache(v_cache, v_params, qkv.dtype)
    if q_weight is not None and k_weight is not None:
        assert q_weight.shape == k_weight.shape == (head_dim,)
    if out is None:
        out = torch.empty(tokens, heads, head_dim, dtype=qkv.dtype, device=qkv.device)
    check_out(out, (tokens, heads, head_dim), qkv.dtype)
    rope_append_kernel[(tokens, heads + 2 * kv_heads)](
        qkv,
        positions,
        cos,
        sin,
        slots,
        out,
        k_cache,
        v_cache,
        k_params,
        v_params,
        q_weight,
        k_weight,
        eps,
        HQ=heads,
        HK=kv_heads,
        D=head_dim,
        HALF=power_of_2(head_dim // 2),
        ROTARY_HALF=cos.shape[1],
        INT8=k_params is not None,
        HEAD_NORM=q_weight is not None,
        num_warps=1,
        num_stages=1,
        **launch_options(),
    )
    return out
