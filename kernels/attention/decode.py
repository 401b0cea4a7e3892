"""Decode attention over the paged cache: split along the context, then combined.

The query heads of one KV head share a program, so K and V are read once. Split bounds follow
from the lengths on the device; the number of splits is static.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import check_out, launch_options, power_of_2, sm_count, sm_version
from .splits import Splits, splits_for

_LOG2_E = 1.4426950408889634


@triton.jit
def _span(length, window, T: tl.constexpr, SPLITS: tl.constexpr, WINDOWED: tl.constexpr):
    """First token attended to, and tokens of one split (a multiple of T)."""
    first = 0
    if WINDOWED:
        first = tl.maximum(length - window, 0)
    per_split = (length - first + SPLITS - 1) // SPLITS
    return first, (per_split + T - 1) // T * T


@triton.jit
def _load_vectors(
    cache_ptr,
    params_ptr,
    vector,
    d,
    m_t,
    D: tl.constexpr,
    INT8: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Vectors [T, DP] of the cache in DTYPE; int8 codes are dequantised in fp32."""
    x = tl.load(
        cache_ptr + vector[:, None] * D + d[None, :],
        mask=m_t[:, None] & (d < D)[None, :],
        other=0,
    )
    if INT8:
        scale = tl.load(params_ptr + vector * 2, mask=m_t, other=0.0).to(tl.float32)
        minimum = tl.load(params_ptr + vector * 2 + 1, mask=m_t, other=0.0).to(tl.float32)
        x = x.to(tl.float32) * scale[:, None] + minimum[:, None]
        x = tl.where((d < D)[None, :], x, 0.0)
    return x.to(DTYPE)


@triton.jit
def decode_attention_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    k_params_ptr,
    v_params_ptr,
    table_ptr,
    lengths_ptr,
    out_ptr,
    partial_ptr,
    stats_ptr,
    scale_log2,
    window,
    table_stride,
    HQ: tl.constexpr,
    HK: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    GP: tl.constexpr,
    T: tl.constexpr,
    PAGE: tl.constexpr,
    SPLITS: tl.constexpr,
    INT8: tl.constexpr,
    WINDOWED: tl.constexpr,
    USE_DOT: tl.constexpr,
):
    split = tl.program_id(0)
    kv_head = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    GROUP: tl.constexpr = HQ // HK
    length = tl.load(lengths_ptr + b)
    first, per_split = _span(length, window, T, SPLITS, WINDOWED)
    begin = first + split * per_split
    end = tl.minimum(begin + per_split, length)
    h = tl.arange(0, GP)
    d = tl.arange(0, DP)
    m_h = (h < GROUP)[:, None] & (d < D)[None, :]
    head = b * HQ + kv_head * GROUP + h
    DTYPE: tl.constexpr = q_ptr.dtype.element_ty if USE_DOT else tl.float32
    q = tl.load(q_ptr + head[:, None] * D + d[None, :], mask=m_h, other=0.0).to(DTYPE)
    top = tl.full([GP], -float("inf"), tl.float32)
    norm = tl.zeros([GP], tl.float32)
    acc = tl.zeros([GP, DP], tl.float32)
    for t0 in range(begin, end, T):
        t = t0 + tl.arange(0, T)
        m_t = t < end
        page = tl.load(table_ptr + b * table_stride + t // PAGE, mask=m_t, other=0).to(tl.int64)
        vector = (page * PAGE + t % PAGE) * HK + kv_head
        k = _load_vectors(k_ptr, k_params_ptr, vector, d, m_t, D, INT8, DTYPE)
        if USE_DOT:
            scores = tl.dot(q, tl.trans(k)) * scale_log2
        else:
            scores = tl.sum(q[:, None, :] * k[None, :, :], 2) * scale_log2
        scores = tl.where(m_t[None, :], scores, -float("inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        p = tl.exp2(scores - new_top[:, None])
        keep = tl.exp2(top - new_top)
        norm = norm * keep + tl.sum(p, 1)
        acc = acc * keep[:, None]
        v = _load_vectors(v_ptr, v_params_ptr, vector, d, m_t, D, INT8, DTYPE)
        if USE_DOT:
            acc = tl.dot(p.to(DTYPE), v, acc)
        else:
            acc += tl.sum(p[:, :, None] * v[None, :, :], 1)
        top = new_top
    if SPLITS == 1:
        y = tl.where(norm[:, None] > 0.0, acc / tl.where(norm > 0.0, norm, 1.0)[:, None], 0.0)
        p_out = out_ptr + head[:, None] * D + d[None, :]
        tl.store(p_out, y.to(out_ptr.dtype.element_ty), mask=m_h)
    elif begin < end:
        slot = head * SPLITS + split
        tl.store(partial_ptr + slot[:, None] * D + d[None, :], acc, mask=m_h)
        tl.store(stats_ptr + slot * 2, top, mask=h < GROUP)
        tl.store(stats_ptr + slot * 2 + 1, norm, mask=h < GROUP)


@triton.jit
def combine_splits_kernel(
    partial_ptr,
    stats_ptr,
    lengths_ptr,
    out_ptr,
    window,
    HQ: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    T: tl.constexpr,
    SPLITS: tl.constexpr,
    SP: tl.constexpr,
    WINDOWED: tl.constexpr,
):
    head = tl.program_id(0).to(tl.int64)
    length = tl.load(lengths_ptr + head // HQ)
    first, per_split = _span(length, window, T, SPLITS, WINDOWED)
    split = tl.arange(0, SP)
    d = tl.arange(0, DP)
    m_s = (split < SPLITS) & (first + split * per_split < length)
    slot = head * SPLITS + split
    top = tl.load(stats_ptr + slot * 2, mask=m_s, other=-float("inf"))
    norm = tl.load(stats_ptr + slot * 2 + 1, mask=m_s, other=0.0)
    m_p = m_s[:, None] & (d < D)[None, :]
    acc = tl.load(partial_ptr + slot[:, None] * D + d[None, :], mask=m_p, other=0.0)
    highest = tl.max(top, 0)
    share = tl.where(m_s, tl.exp2(top - tl.where(length > 0, highest, 0.0)), 0.0)
    total = tl.sum(norm * share, 0)
    y = tl.sum(acc * share[:, None], 0) / tl.where(total > 0.0, total, 1.0)
    tl.store(out_ptr + head * D + d, y.to(out_ptr.dtype.element_ty), mask=d < D)


def decode(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_table: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    scale: float,
    window: int = 0,
    k_params: torch.Tensor | None = None,
    v_params: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
    splits: Splits | None = None,
) -> torch.Tensor:
    """q [B, Hq, D] against the newest `window` (0: all) of seq_lens tokens -> [B, Hq, D].

    q fp16 or bf16; caches [pages, page_tokens, Hk, D] in q's dtype, or uint8 with params fp16
    [pages, page_tokens, Hk, 2]; block_table int32 [B, max_pages]; seq_lens int32 [B], the new
    token included, read on the device only. A sequence of length 0 yields zeros. The longest
    context is max_pages * page_tokens; `splits` is for tuning.
    """
    batch, heads, head_dim = q.shape
    page_tokens, kv_heads = k_cache.shape[1], k_cache.shape[2]
    assert q.dtype in (torch.float16, torch.bfloat16) and q.is_contiguous()
    assert heads % kv_heads == 0, f"{heads} heads over {kv_heads} KV heads"
    assert k_cache.shape == v_cache.shape and k_cache.shape[3] == head_dim
    assert k_cache.is_contiguous() and v_cache.is_contiguous()
    assert k_cache.dtype == v_cache.dtype == (q.dtype if k_params is None else torch.uint8)
    for params in (k_params, v_params):
        if params is not None:
            check_out(params, (*k_cache.shape[:3], 2), torch.float16)
    assert (k_params is None) == (v_params is None)
    assert block_table.dtype == torch.int32 and block_table.stride(1) == 1
    assert seq_lens.dtype == torch.int32 and seq_lens.shape == (batch,) == block_table.shape[:1]
    if out is None:
        out = torch.empty_like(q)
    check_out(out, (batch, heads, head_dim), q.dtype)
    if splits is None:
        splits = splits_for(
            batch,
            heads,
            kv_heads,
            head_dim,
            min(window or 2**31, block_table.shape[1] * page_tokens),
            sm_version(q.device),
            sm_count(q.device),
        )
    partial = stats = None
    if splits.count > 1:
        partial = torch.empty(
            batch, heads, splits.count, head_dim, dtype=torch.float32, device=q.device
        )
        stats = torch.empty(batch, heads, splits.count, 2, dtype=torch.float32, device=q.device)
    group = power_of_2(heads // kv_heads)
    decode_attention_kernel[(splits.count, kv_heads, batch)](
        q,
        k_cache,
        v_cache,
        k_params,
        v_params,
        block_table,
        seq_lens,
        out,
        partial,
        stats,
        scale * _LOG2_E,
        window,
        block_table.stride(0),
        HQ=heads,
        HK=kv_heads,
        D=head_dim,
        DP=power_of_2(head_dim),
        GP=max(16, group) if splits.use_dot else group,
        T=splits.tile_tokens,
        PAGE=page_tokens,
        SPLITS=splits.count,
        INT8=k_params is not None,
        WINDOWED=window > 0,
        USE_DOT=splits.use_dot,
        num_warps=splits.warps,
        num_stages=splits.stages,
        **launch_options(),
    )
    if splits.count > 1:
        combine_splits_kernel[(batch * heads,)](
            partial,
            stats,
            seq_lens,
            out,
            window,
            HQ=heads,
            D=head_dim,
            DP=power_of_2(head_dim),
            T=splits.tile_tokens,
            SPLITS=splits.count,
            SP=power_of_2(splits.count),
            WINDOWED=window > 0,
            num_warps=4,
            num_stages=1,
            **launch_options(),
        )
    return out
