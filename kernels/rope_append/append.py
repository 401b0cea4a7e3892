"""From the fused qkv projection to a rotated query and a grown cache, in one launch.

One program a token and head: query heads are normed and turned, key heads also written, value
heads only written. Serves prompts; a decode step does this inside its attention.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import check_activation, check_out, launch, power_of_2
from .formats import ROTATED, VECTORS, KvFormat, check_pages, check_rotation
from .heads import (
    hadamard_heads,
    head_columns,
    levels_of,
    normed_heads,
    put_heads,
    stored_heads,
    turn_of,
    turned_heads,
)


@triton.jit
def _append(
    x, d, m_d, cache_ptr, params_ptr, vector, D: tl.constexpr, DP: tl.constexpr, KV: tl.constexpr
):
    one = tl.arange(0, 1)
    m_x = m_d[None, :]
    code, scale_16, minimum_16, _ = stored_heads(x, m_x, levels_of(one, KV), KV)
    put_heads(
        code, scale_16, minimum_16, cache_ptr, params_ptr, vector, one >= 0, d, m_d, 1, D, DP, KV
    )


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
    DP: tl.constexpr,
    ROTARY_HALF: tl.constexpr,
    K_KV: tl.constexpr,
    V_KV: tl.constexpr,
    ROTATES: tl.constexpr,
    HEAD_NORM: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    DTYPE: tl.constexpr = qkv_ptr.dtype.element_ty
    d, m_d = head_columns(D, DP, K_KV == "int4")
    if K_KV != V_KV:
        d_v, m_v = head_columns(D, DP, V_KV == "int4")
        d = tl.where(head < HQ + HK, d, d_v)
        m_d = tl.where(head < HQ + HK, m_d, m_v)
    slot = tl.load(slots_ptr + token)
    p_x = qkv_ptr + (token * (HQ + 2 * HK) + head) * D + d
    x = tl.load(p_x, mask=m_d, other=0.0).to(tl.float32)[None, :]
    if head < HQ + HK:
        if HEAD_NORM:
            p_weight = q_weight_ptr
            if head >= HQ:
                p_weight = k_weight_ptr
            weight = tl.load(p_weight + d, mask=m_d, other=0.0).to(tl.float32)
            x = normed_heads(x, weight, eps, D, DTYPE)
        position = tl.load(positions_ptr + token)
        c, s = turn_of(cos_ptr, sin_ptr, position, D, DP, ROTARY_HALF, K_KV == "int4")
        x = turned_heads(x, c[None, :], s[None, :], 1, DP, DTYPE)
        if ROTATES:
            x = hadamard_heads(x, 1, D, DTYPE)
    if head < HQ:
        p_q = q_out_ptr + (token * HQ + head) * D + d
        tl.store(p_q[None, :], x.to(DTYPE), mask=m_d[None, :])
    elif slot >= 0:
        vector = slot * HK + (head - HQ)
        if head < HQ + HK:
            _append(x, d, m_d, k_cache_ptr, k_params_ptr, vector, D, DP, K_KV)
        else:
            _append(x, d, m_d, v_cache_ptr, v_params_ptr, vector - HK, D, DP, V_KV)


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
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Writes K and V of each token into the paged cache; returns rotated q [M, heads, D].

    qkv [M, (heads + 2 Hk) * D] fp16 or bf16; positions int32 [M]; cos, sin fp32 [context, R] turn
    the first 2 R values of a head in adjacent pairs; slots int64 [M], page * page_tokens + place,
    -1 writes nothing. Caches and params as formats.py has them for `kv`. q_weight and k_weight [D]
    norm each head first (both or none). Where `kv` rotates, q and K come out rotated.
    """
    check_activation(qkv, "qkv")
    tokens = qkv.shape[0]
    kv_heads = k_cache.shape[2]
    head_dim = qkv.shape[1] // (heads + 2 * kv_heads)
    assert qkv.shape[1] == (heads + 2 * kv_heads) * head_dim, (qkv.shape, heads, k_cache.shape)
    assert head_dim % 2 == 0 and cos.shape[1] * 2 <= head_dim
    assert positions.shape == (tokens,) and positions.dtype == torch.int32
    assert slots.shape == (tokens,) and slots.dtype == torch.int64
    for table in (cos, sin):
        assert table.dtype == torch.float32 and table.is_contiguous() and table.shape == cos.shape
    assert v_cache.shape[:3] == k_cache.shape[:3]
    assert (q_weight is None) == (k_weight is None)
    k_format, v_format = VECTORS[kv]
    check_pages(k_cache, k_params, k_format, head_dim, qkv.dtype)
    check_pages(v_cache, v_params, v_format, head_dim, qkv.dtype)
    check_rotation(head_dim, kv)
    if q_weight is not None and k_weight is not None:
        assert q_weight.shape == k_weight.shape == (head_dim,)
    if out is None:
        out = torch.empty(tokens, heads, head_dim, dtype=qkv.dtype, device=qkv.device)
    check_out(out, (tokens, heads, head_dim), qkv.dtype)
    launch(
        rope_append_kernel,
        (tokens, heads + 2 * kv_heads, 1),
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
        DP=power_of_2(head_dim),
        ROTARY_HALF=cos.shape[1],
        K_KV=k_format,
        V_KV=v_format,
        ROTATES=kv in ROTATED,
        HEAD_NORM=q_weight is not None,
        warps=1,
    )
    return out
