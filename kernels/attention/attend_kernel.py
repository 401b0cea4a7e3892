"""Decode attention in one launch, in plain sums: for cards without these tensor cores, interpreted.

From raw qkv rows to attended heads, the cache grown on the way; attend.py says what is where and
who writes what. A program serves one part of the query heads of a KV head of one row, over every
SPLITS-th tile of its context. Where several programs share a context, the last to arrive puts their
sums together in the order of the splits.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..rope_append.heads import (
    head_columns,
    levels_of,
    normed_heads,
    put_heads,
    stored_heads,
    turn_of,
    turned_heads,
)
from .combine import combine_splits
from .tiles import load_pages, load_params, load_tile, unpack_tile


@triton.jit
def soft_cap(x, cap_log2):
    """cap * tanh(x / cap), both in units of log2(e)."""
    return cap_log2 * (1.0 - 2.0 / (tl.exp2(x * (2.885390081777927 / cap_log2)) + 1.0))


@triton.jit
def attend_kernel(
    qkv_ptr,
    positions_ptr,
    lengths_ptr,
    slots_ptr,
    table_ptr,
    cos_ptr,
    sin_ptr,
    q_weight_ptr,
    k_weight_ptr,
    k_ptr,
    v_ptr,
    k_params_ptr,
    v_params_ptr,
    out_ptr,
    partial_ptr,
    stats_ptr,
    arrived_ptr,
    eps,
    scale_log2,
    cap_log2,
    window,
    table_stride,
    capacity,
    HQ: tl.constexpr,
    HK: tl.constexpr,
    PARTS: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    GP: tl.constexpr,
    ROTARY_HALF: tl.constexpr,
    T: tl.constexpr,
    PAGE: tl.constexpr,
    SPLITS: tl.constexpr,
    SP: tl.constexpr,
    GC: tl.constexpr,
    K_KV: tl.constexpr,
    V_KV: tl.constexpr,
    HEAD_NORM: tl.constexpr,
    WINDOWED: tl.constexpr,
    CAPPED: tl.constexpr,
):
    GROUP: tl.constexpr = HQ // HK
    SHARE: tl.constexpr = (GROUP + PARTS - 1) // PARTS
    QUANTIZED: tl.constexpr = K_KV != "16bit"
    SHIFTED: tl.constexpr = K_KV == "int8" or K_KV == "int4"
    tl.static_assert(K_KV == V_KV or (SHIFTED and (V_KV == "int8" or V_KV == "int4")))
    DTYPE: tl.constexpr = qkv_ptr.dtype.element_ty
    split = tl.program_id(0)
    kv_head = tl.program_id(1)
    part = 0
    held = SHARE
    if PARTS > 1:
        part = kv_head % PARTS
        kv_head = kv_head // PARTS
        held = tl.minimum(GROUP - part * SHARE, SHARE)
    first_head = kv_head * GROUP + part * SHARE
    row = tl.program_id(2).to(tl.int64)
    length = tl.load(lengths_ptr + row)
    position = tl.load(positions_ptr + row)
    first = 0
    if WINDOWED:
        first = tl.maximum(length - window, 0)
    first_tile = first // T
    tiles = (length + T - 1) // T - first_tile
    rank = (split + SPLITS - first_tile % SPLITS) % SPLITS
    # An empty row has one program too, which writes zeros.
    if rank >= tl.maximum(tiles, 1):
        return
    active = tl.minimum(tiles, SPLITS)
    old = length - 1
    tile = first_tile + rank
    end_tile = (old + T - 1) // T
    if WINDOWED:
        # A window of one token has no old ones; a tile without any would be all -inf.
        end_tile = tl.where(first < old, end_tile, 0)

    p_table = table_ptr + row * table_stride
    t = tile * T + tl.arange(0, T)
    page = load_pages(p_table, t, capacity, PAGE)
    vector = (page * PAGE + t % PAGE) * HK + kv_head
    m_t = (t < old) & (t >= first)
    k_raw = load_tile(k_ptr, vector, m_t, D, DP, K_KV)
    v_raw = load_tile(v_ptr, vector, m_t, D, DP, V_KV)
    k_scale, k_minimum = load_params(k_params_ptr, vector, m_t, K_KV)
    v_scale, v_minimum = load_params(v_params_ptr, vector, m_t, V_KV)
    t_next = t + SPLITS * T
    page_next = load_pages(p_table, t_next, capacity, PAGE)

    d, m_d = head_columns(D, DP, K_KV == "int4")
    d_v, m_v = head_columns(D, DP, V_KV == "int4")
    c, s = turn_of(cos_ptr, sin_ptr, position, D, DP, ROTARY_HALF, K_KV == "int4")
    if HEAD_NORM:
        q_weight = tl.load(q_weight_ptr + d, mask=m_d, other=0.0).to(tl.float32)
        k_weight = tl.load(k_weight_ptr + d, mask=m_d, other=0.0).to(tl.float32)

    h = tl.arange(0, GP)
    m_h = h < held
    heads_row = row * (HQ + 2 * HK)
    p_q = qkv_ptr + (heads_row + first_head + h)[:, None] * D + d[None, :]
    q_wide = tl.load(p_q, mask=m_h[:, None] & m_d[None, :], other=0.0).to(tl.float32)
    # Row 0 is the newest token's key, row 1 its value; as many rows as q has, for the same layout.
    ROWS: tl.constexpr = GP if GP > 1 else 2
    r = tl.arange(0, ROWS)
    is_key = (r == 0)[:, None]
    d_new = tl.where(is_key, d[None, :], d_v[None, :])
    m_new = (is_key & m_d[None, :]) | ((r > 0)[:, None] & m_v[None, :])
    p_new = qkv_ptr + (heads_row + HQ + r * HK + kv_head)[:, None] * D + d_new
    new = tl.load(p_new, mask=m_new & (r < 2)[:, None], other=0.0).to(tl.float32)
    slot = tl.load(slots_ptr + row)
    if PARTS > 1:
        slot = tl.where(part == 0, slot, -1)
    if HEAD_NORM:
        q_wide = normed_heads(q_wide, q_weight, eps, D, DTYPE)
    q_wide = turned_heads(q_wide, c[None, :], s[None, :], GP, DP, DTYPE)
    q_sum = tl.sum(q_wide, 1)

    newest_score = tl.full([GP], -float("inf"), tl.float32)
    newest_v = tl.zeros([DP], tl.float32)
    if (tiles > 0) & ((tiles - 1) % SPLITS == rank):
        if HEAD_NORM:
            new = tl.where(is_key, normed_heads(new, k_weight, eps, D, DTYPE), new)
        c_new = tl.where(is_key, c[None, :], 1.0)
        s_new = tl.where(is_key, s[None, :], 0.0)
        new = turned_heads(new, c_new, s_new, ROWS, DP, DTYPE)
        levels = tl.where(r == 0, levels_of(r, K_KV), levels_of(r, V_KV))
        code, scale, minimum, seen = stored_heads(new, m_new, levels, K_KV)
        at = slot * HK + kv_head
        to_k = (r == 0) & (at + r >= 0)
        to_v = (r == 1) & (at + r > 0)
        put_heads(code, scale, minimum, k_ptr, k_params_ptr, at, to_k, d, m_d, ROWS, D, DP, K_KV)
        put_heads(code, scale, minimum, v_ptr, v_params_ptr, at, to_v, d_v, m_v, ROWS, D, DP, V_KV)
        k_row = tl.where(is_key, seen, 0.0)
        v_row = tl.where((r == 1)[:, None], seen, 0.0)
        k_seen, v_seen = tl.split(tl.sum(tl.join(k_row, v_row), 0))
        newest_v = v_seen
        newest_score = tl.sum(q_wide * k_seen[None, :], 1) * scale_log2
        if CAPPED:
            newest_score = soft_cap(newest_score, cap_log2)

    top = tl.full([GP], -float("inf"), tl.float32)
    norms = tl.zeros([GP, T], tl.float32)
    shifts = tl.zeros([GP, T], tl.float32)
    acc = tl.zeros([GP, DP], tl.float32)
    for _ in range(tile, end_tile, SPLITS):
        # The next tile is fetched into the registers that this one has just left.
        m_next = t_next < old
        vector = (page_next * PAGE + t_next % PAGE) * HK + kv_head
        page_next = load_pages(p_table, t_next + SPLITS * T, capacity, PAGE)
        k = unpack_tile(k_raw, T, DP, K_KV)
        k_raw = load_tile(k_ptr, vector, m_next, D, DP, K_KV)
        scores = tl.sum(q_wide[:, None, :] * k[None, :, :], 2)
        if QUANTIZED:
            scores = scores * k_scale[None, :]
        if SHIFTED:
            scores += k_minimum[None, :] * q_sum[:, None]
        k_scale, k_minimum = load_params(k_params_ptr, vector, m_next, K_KV)
        scores = scores * scale_log2
        if CAPPED:
            scores = soft_cap(scores, cap_log2)
        scores = tl.where(m_t[None, :], scores, -float("inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        keep = tl.exp2(top - new_top)
        top = new_top
        p = tl.exp2(scores - new_top[:, None])
        norms = norms * keep[:, None] + p
        acc = acc * keep[:, None]
        if SHIFTED:
            shifts = shifts * keep[:, None] + p * v_minimum[None, :]
        if QUANTIZED:
            p = p * v_scale[None, :]
        v_scale, v_minimum = load_params(v_params_ptr, vector, m_next, V_KV)
        v = unpack_tile(v_raw, T, DP, V_KV)
        v_raw = load_tile(v_ptr, vector, m_next, D, DP, V_KV)
        # In this order: the compiler takes p times v for a product of matrices, in 10-bit mantissas,
        # and tiles narrower than that product's eight tokens would count twice.
        acc += tl.sum(v[None, :, :] * p[:, :, None], 1)
        m_t = m_next
        t_next += SPLITS * T

    highest = tl.maximum(top, newest_score)
    base = tl.where(highest == -float("inf"), 0.0, highest)
    keep = tl.exp2(top - base)
    fresh = tl.exp2(newest_score - base)
    y = acc * keep[:, None] + fresh[:, None] * newest_v[None, :]
    norm = tl.sum(norms, 1) * keep + fresh
    if SHIFTED:
        y += (tl.sum(shifts, 1) * keep)[:, None]
    m_y = m_h[:, None] & m_v[None, :]
    head = row * HQ + first_head
    if active <= 1:
        y = y / tl.where(norm > 0.0, norm, 1.0)[:, None]
        p_out = out_ptr + (head + h)[:, None] * D + d_v[None, :]
        tl.store(p_out, y.to(out_ptr.dtype.element_ty), mask=m_y)
    else:
        first_slot = head * SPLITS
        at_part = first_slot + rank * held + h
        tl.store(partial_ptr + at_part[:, None] * D + d_v[None, :], y, mask=m_y)
        tl.store(stats_ptr + at_part * 2, base, mask=m_h)
        tl.store(stats_ptr + at_part * 2 + 1, norm, mask=m_h)
        tl.debug_barrier()
        p_arrived = arrived_ptr + (row * HK + kv_head) * PARTS + part
        if tl.atomic_add(p_arrived, 1, sem="acq_rel") == active - 1:
            combine_splits(
                partial_ptr,
                stats_ptr,
                out_ptr + head * D,
                first_slot,
                active,
                held,
                SHARE,
                D,
                DP,
                SPLITS,
                SP,
                GC,
            )
            tl.store(p_arrived, 0)
