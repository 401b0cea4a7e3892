"""Decode attention in one launch: from raw qkv rows to attended heads, the cache grown on the way.

A program serves one KV head of one row over every SPLITS-th tile of its context. It norms and turns
its query heads itself; the one whose tiles end with the newest token also stores that token's K and
V and attends to them as stored, so no program reads what another writes. Where several programs
share a context, the last to arrive puts their parts together in the order of the splits.

What is read before the wait of a dependent launch (positions, lengths, page table, older tokens)
must have been complete before the last full boundary in the stream: a graph launch, a copy, or a
kernel launched plainly. Within a decode step nothing changes them ahead of its end.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from ..rope_append.heads import (
    head_columns,
    normed_heads,
    put_heads,
    stored_heads,
    turn_of,
    turned_heads,
)
from .combine import combine_splits
from .tiles import code_offset, load_pages, load_params, load_tile, settled, unpack_tile


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
    window,
    table_stride,
    capacity,
    HQ: tl.constexpr,
    HK: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    GP: tl.constexpr,
    ROTARY_HALF: tl.constexpr,
    T: tl.constexpr,
    PAGE: tl.constexpr,
    SPLITS: tl.constexpr,
    SP: tl.constexpr,
    GC: tl.constexpr,
    KV: tl.constexpr,
    HEAD_NORM: tl.constexpr,
    WINDOWED: tl.constexpr,
    USE_DOT: tl.constexpr,
    USE_ASM: tl.constexpr,
    FP8_UNIT: tl.constexpr,
    EARLY: tl.constexpr,
    PDL: tl.constexpr,
):
    if PDL:
        gdc_launch_dependents()
        if not EARLY:
            gdc_wait()
    GROUP: tl.constexpr = HQ // HK
    QUANTIZED: tl.constexpr = KV != "16bit"
    SHIFTED: tl.constexpr = KV == "int8" or KV == "int4"
    # Codes are finite whatever they are; other values must not meet a weight of 0 as NaN.
    V_ZEROED: tl.constexpr = not SHIFTED
    K_ZEROED: tl.constexpr = not SHIFTED and D != DP
    # Keeps p * scale inside fp16 for every scale that a page can hold.
    V_UNIT: tl.constexpr = 1.0 if KV == "16bit" else (4.0 if KV == "int4" else 64.0)
    DTYPE: tl.constexpr = qkv_ptr.dtype.element_ty
    split = tl.program_id(0)
    kv_head = tl.program_id(1)
    row = tl.program_id(2).to(tl.int64)
    # Past L1, which may hold the step before.
    length = tl.load(lengths_ptr + row, cache_modifier=".cg")
    position = tl.load(positions_ptr + row, cache_modifier=".cg")
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
    k_raw = load_tile(k_ptr, vector, m_t, D, DP, KV, USE_ASM, K_ZEROED)
    v_raw = load_tile(v_ptr, vector, m_t, D, DP, KV, USE_ASM, V_ZEROED)
    k_scale, k_minimum = load_params(k_params_ptr, vector, m_t, KV, USE_ASM)
    v_scale, v_minimum = load_params(v_params_ptr, vector, m_t, KV, USE_ASM)
    t_next = t + SPLITS * T
    page_next = load_pages(p_table, t_next, capacity, PAGE)

    d, m_d = head_columns(D, DP, KV == "int4")
    c, s = turn_of(cos_ptr, sin_ptr, position, D, DP, ROTARY_HALF, KV == "int4")
    if HEAD_NORM:
        q_weight = tl.load(q_weight_ptr + d, mask=m_d, other=0.0).to(tl.float32)
        k_weight = tl.load(k_weight_ptr + d, mask=m_d, other=0.0).to(tl.float32)
    if PDL and EARLY:
        gdc_wait()

    h = tl.arange(0, GP)
    m_h = h < GROUP
    heads_row = row * (HQ + 2 * HK)
    p_q = qkv_ptr + (heads_row + kv_head * GROUP + h)[:, None] * D + d[None, :]
    q_wide = tl.load(p_q, mask=m_h[:, None] & m_d[None, :], other=0.0).to(tl.float32)
    # Row 0 is the newest token's key, row 1 its value; as many rows as q has, for the same layout.
    ROWS: tl.constexpr = GP if GP > 1 else 2
    r = tl.arange(0, ROWS)
    p_new = qkv_ptr + (heads_row + HQ + r * HK + kv_head)[:, None] * D + d[None, :]
    new = tl.load(p_new, mask=m_d[None, :] & (r < 2)[:, None], other=0.0).to(tl.float32)
    slot = tl.load(slots_ptr + row)
    if HEAD_NORM:
        q_wide = normed_heads(q_wide, q_weight, eps, D, DTYPE)
    q_wide = turned_heads(q_wide, c[None, :], s[None, :], GP, DP, DTYPE)
    unit = tl.zeros([GP], tl.float32) + scale_log2
    if QUANTIZED and not DTYPE.is_fp16():
        # A power of two brings q into fp16's range.
        exponent = tl.max(tl.abs(q_wide), 1).to(tl.int32, bitcast=True) & 0x7F800000
        shrink = ((254 << 23) - exponent).to(tl.float32, bitcast=True)
        q = (q_wide * shrink[:, None]).to(tl.float16)
        unit = unit * tl.where(exponent > 0, exponent.to(tl.float32, bitcast=True), 0.0)
    else:
        q = q_wide.to(DTYPE)
    q_sum = tl.sum(q.to(tl.float32), 1)

    newest_score = tl.full([GP], -float("inf"), tl.float32)
    newest_v = tl.zeros([DP], tl.float32)
    if (tiles > 0) & ((tiles - 1) % SPLITS == rank):
        is_key = (r == 0)[:, None]
        if HEAD_NORM:
            new = tl.where(is_key, normed_heads(new, k_weight, eps, D, DTYPE), new)
        c_new = tl.where(is_key, c[None, :], 1.0)
        s_new = tl.where(is_key, s[None, :], 0.0)
        new = turned_heads(new, c_new, s_new, ROWS, DP, DTYPE)
        code, scale_16, minimum_16, seen = stored_heads(new, m_d, KV)
        at = slot * HK + kv_head
        m_k = (r == 0) & (at + r >= 0)
        m_v = (r == 1) & (at + r > 0)
        put_heads(code, scale_16, minimum_16, k_ptr, k_params_ptr, at, m_k, d, m_d, ROWS, D, DP, KV)
        put_heads(code, scale_16, minimum_16, v_ptr, v_params_ptr, at, m_v, d, m_d, ROWS, D, DP, KV)
        k_row = tl.where(is_key, seen, 0.0)
        v_row = tl.where((r == 1)[:, None], seen, 0.0)
        k_seen, v_seen = tl.split(tl.sum(tl.join(k_row, v_row), 0))
        newest_v = settled(v_seen, USE_ASM)
        newest_score = tl.sum(q_wide * k_seen[None, :], 1) * scale_log2

    offset = code_offset(KV, USE_ASM)
    top = tl.full([GP], -float("inf"), tl.float32)
    norms = tl.zeros([GP, T], tl.float32)
    shifts = tl.zeros([GP, T], tl.float32)
    acc = tl.zeros([GP, DP], tl.float32)
    for _ in range(tile, end_tile, SPLITS):
        # The next tile is fetched into the registers that this one has just left.
        m_next = t_next < old
        vector = (page_next * PAGE + t_next % PAGE) * HK + kv_head
        page_next = load_pages(p_table, t_next + SPLITS * T, capacity, PAGE)
        k = unpack_tile(k_raw, T, DP, KV, DTYPE, USE_ASM, FP8_UNIT)
        k_raw = load_tile(k_ptr, vector, m_next, D, DP, KV, USE_ASM, K_ZEROED)
        if USE_DOT:
            scores = tl.dot(q, tl.trans(k))
        else:
            wide = q.to(tl.float32)[:, None, :] * k.to(tl.float32)[None, :, :]
            scores = tl.sum(wide, 2)
        if QUANTIZED:
            scores = scores * k_scale[None, :]
        if SHIFTED:
            scores += (k_minimum - offset * k_scale)[None, :] * q_sum[:, None]
        k_scale, k_minimum = load_params(k_params_ptr, vector, m_next, KV, USE_ASM)
        scores = tl.where(m_t[None, :], scores * unit[:, None], -float("inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        keep = tl.exp2(top - new_top)
        top = new_top
        p = tl.exp2(scores - new_top[:, None])
        norms = norms * keep[:, None] + p
        acc = acc * keep[:, None]
        weights = p
        if QUANTIZED:
            weights = p * (v_scale * V_UNIT)[None, :]
        weights = weights.to(tl.float16 if QUANTIZED else DTYPE)
        if SHIFTED:
            taken = weights.to(tl.float32) * (offset / V_UNIT)
            shifts = shifts * keep[:, None] + (p * v_minimum[None, :] - taken)
        v_scale, v_minimum = load_params(v_params_ptr, vector, m_next, KV, USE_ASM)
        v = unpack_tile(v_raw, T, DP, KV, DTYPE, USE_ASM, FP8_UNIT)
        v_raw = load_tile(v_ptr, vector, m_next, D, DP, KV, USE_ASM, V_ZEROED)
        if USE_DOT:
            acc = tl.dot(weights, v, acc)
        else:
            acc += tl.sum(weights.to(tl.float32)[:, :, None] * v.to(tl.float32)[None, :, :], 1)
        m_t = m_next
        t_next += SPLITS * T

    highest = tl.maximum(top, newest_score)
    base = tl.where(highest == -float("inf"), 0.0, highest)
    keep = tl.exp2(top - base)
    fresh = tl.exp2(newest_score - base)
    y = acc * (keep / V_UNIT)[:, None] + fresh[:, None] * newest_v[None, :]
    norm = tl.sum(norms, 1) * keep + fresh
    if SHIFTED:
        y += (tl.sum(shifts, 1) * keep)[:, None]
    m_y = m_h[:, None] & m_d[None, :]
    head = row * HQ + kv_head * GROUP
    if active <= 1:
        y = y / tl.where(norm > 0.0, norm, 1.0)[:, None]
        p_out = out_ptr + (head + h)[:, None] * D + d[None, :]
        tl.store(p_out, y.to(out_ptr.dtype.element_ty), mask=m_y)
    else:
        first_slot = (row * HK + kv_head) * (SPLITS * GROUP)
        at_part = first_slot + rank * GROUP + h
        tl.store(partial_ptr + at_part[:, None] * D + d[None, :], y, mask=m_y)
        tl.store(stats_ptr + at_part * 2, base, mask=m_h)
        tl.store(stats_ptr + at_part * 2 + 1, norm, mask=m_h)
        tl.debug_barrier()
        p_arrived = arrived_ptr + row * HK + kv_head
        if tl.atomic_add(p_arrived, 1, sem="acq_rel") == active - 1:
            combine_splits(
                partial_ptr,
                stats_ptr,
                out_ptr + head * D,
                first_slot,
                active,
                GROUP,
                D,
                DP,
                SPLITS,
                SP,
                GC,
            )
            tl.store(p_arrived, 0)
