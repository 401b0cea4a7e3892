"""Keys and values of a sequence out of rounded pages, as a prompt's attention takes them.

One launch for both: a program holds some vectors of one of them, the page of each looked up. What
comes out are the very numbers that reference.dequantize_heads gives.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import ceil_div, launch, power_of_2
from .formats import PARAMS, VECTORS, KvFormat, check_pages

_VALUES = 2048
"""A program's."""


@triton.jit
def _seen(cache_ptr, params_ptr, vector, m_x, d, D: tl.constexpr, KV: tl.constexpr):
    """fp32 values of vectors [R] in the columns d [DP]."""
    if KV == "int4":
        HALF: tl.constexpr = D // 2
        byte = tl.load(cache_ptr + vector[:, None] * HALF + (d % HALF)[None, :], mask=m_x, other=0)
        code = (byte.to(tl.int32) >> (d // HALF * 4)[None, :]) & 15
    else:
        byte = tl.load(cache_ptr + vector[:, None] * D + d[None, :], mask=m_x, other=0)
        code = byte.to(tl.int32)
    PARAMS: tl.constexpr = 1 if KV == "fp8" else 2
    # Vectors past the end are those of page 0: in memory, and stored nowhere.
    p_params = params_ptr + vector * PARAMS
    scale = tl.load(p_params).to(tl.float32)[:, None]
    if KV == "fp8":
        # e4m3's bits are those of fp32 with another bias of the exponent.
        magnitude = ((code & 127) << 20).to(tl.float32, bitcast=True) * 1.329227995784916e36
        return tl.where(code < 128, magnitude, -magnitude) * scale
    minimum = tl.load(p_params + 1).to(tl.float32)[:, None]
    return code.to(tl.float32) * scale + minimum


@triton.jit(do_not_specialize=["first", "vectors"])
def read_kernel(
    k_cache_ptr,
    v_cache_ptr,
    k_params_ptr,
    v_params_ptr,
    pages_ptr,
    out_ptr,
    first,
    vectors,
    HK: tl.constexpr,
    PAGE_TOKENS: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    R: tl.constexpr,
    K_KV: tl.constexpr,
    V_KV: tl.constexpr,
):
    value = tl.program_id(1)
    i = tl.program_id(0) * R + tl.arange(0, R)
    m_i = i < vectors
    token = first + i // HK
    page = tl.load(pages_ptr + token // PAGE_TOKENS, mask=m_i, other=0)
    slot = page.to(tl.int64) * PAGE_TOKENS + token % PAGE_TOKENS
    vector = tl.where(m_i, slot * HK + i % HK, 0)
    d = tl.arange(0, DP)
    m_x = m_i[:, None] & (d < D)[None, :]
    if value == 0:
        x = _seen(k_cache_ptr, k_params_ptr, vector, m_x, d, D, K_KV)
    else:
        x = _seen(v_cache_ptr, v_params_ptr, vector, m_x, d, D, V_KV)
    at = (value.to(tl.int64) * vectors + i)[:, None] * D + d[None, :]
    tl.store(out_ptr + at, x.to(out_ptr.dtype.element_ty), mask=m_x)


def read_rounded(
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k_params: torch.Tensor,
    v_params: torch.Tensor,
    pages: torch.Tensor,
    *,
    first: int,
    length: int,
    head_dim: int,
    kv: KvFormat,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Tokens first .. length of a sequence, K then V: [2, length - first, Hk, D] in `dtype`.

    Caches and params as formats.py has them for `kv`, a rounded one; pages int64 [pages] in order.
    """
    k_format, v_format = VECTORS[kv]
    check_pages(k_cache, k_params, k_format, head_dim, dtype)
    check_pages(v_cache, v_params, v_format, head_dim, dtype)
    assert PARAMS[k_format] and PARAMS[v_format], f"{kv} pages hold values"
    _, page_tokens, kv_heads, _ = k_cache.shape
    assert pages.dtype == torch.int64 and pages.shape[0] * page_tokens >= length > first >= 0
    vectors = (length - first) * kv_heads
    padded = power_of_2(head_dim)
    rows = max(1, _VALUES // padded)
    shape = (2, length - first, kv_heads, head_dim)
    out = torch.empty(shape, dtype=dtype, device=k_cache.device)
    launch(
        read_kernel,
        (ceil_div(vectors, rows), 2, 1),
        k_cache,
        v_cache,
        k_params,
        v_params,
        pages,
        out,
        first,
        vectors,
        HK=kv_heads,
        PAGE_TOKENS=page_tokens,
        D=head_dim,
        DP=padded,
        R=rows,
        K_KV=k_format,
        V_KV=v_format,
        warps=4,
        fused=False,
    )
    return out
