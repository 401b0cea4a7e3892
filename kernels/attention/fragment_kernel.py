"""Decode attention whose products read pages straight into the tensor cores' own registers.

For SM 80 and up; what it computes and who writes what is as in attend.py. A warp walks over its own
tokens with a running softmax of its own; nothing is exchanged before the end, when the parts of
warps meet in shared memory and, in long contexts, those of programs in memory.
Shapes: W warps, T tokens of a warp at once, R = 16 rows of query heads, DP columns.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from .._gluon import dependents_may_start, everyone_arrives, wait_for_producers
from .fragment_combine import combine
from .fragments import (
    DENSE,
    FP8,
    INT4,
    INT8,
    columns_layout,
    first_rows,
    head_column,
    in_order,
    one_warp,
    out_of_order,
    own_tokens,
    pages_of,
    pair_params,
    piece_of,
    read,
    read_params,
    rows_layout,
    sixteen,
    unpack,
    words_of,
)
from .newest import (
    inverse_of,
    keep_newest,
    normed,
    soft_cap,
    stored,
    top_code,
    turned,
    wide_halves,
)


@gluon.jit
def fragment_attend_kernel(
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
    k_store_ptr,
    v_store_ptr,
    new_ptr,
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
    HQ: gl.constexpr,
    HK: gl.constexpr,
    PARTS: gl.constexpr,
    D: gl.constexpr,
    DP: gl.constexpr,
    GP: gl.constexpr,
    ROTARY_HALF: gl.constexpr,
    PAGE: gl.constexpr,
    SPLITS: gl.constexpr,
    SP: gl.constexpr,
    ALONE: gl.constexpr,
    K_KV: gl.constexpr,
    V_KV: gl.constexpr,
    BF16: gl.constexpr,
    HEAD_NORM: gl.constexpr,
    WINDOWED: gl.constexpr,
    CAPPED: gl.constexpr,
    FP8_UNIT: gl.constexpr,
    PDL: gl.constexpr,
    W: gl.constexpr,
    T: gl.constexpr,
):
    """qkv, weights and pages are read as int32 words; bytes of pages are written by *_store_ptr.

    new_ptr is qkv_ptr in its own type.
    """
    GROUP: gl.constexpr = HQ // HK
    SHARE: gl.constexpr = (GROUP + PARTS - 1) // PARTS
    ROWS: gl.constexpr = 8 if SHARE <= 8 else 16
    TILE: gl.constexpr = W * T
    HALF: gl.constexpr = DP // 2
    gl.static_assert(K_KV == V_KV or (K_KV >= INT8 and V_KV >= INT8), "both or none have minima")
    SHIFTED: gl.constexpr = K_KV != DENSE and K_KV != FP8
    K_MIDDLE: gl.constexpr = 128.0 if K_KV == INT8 else (8.0 if K_KV == INT4 else 0.0)
    V_MIDDLE: gl.constexpr = 128.0 if V_KV == INT8 else (8.0 if V_KV == INT4 else 0.0)
    # Keeps p * scale inside fp16 for every scale that a page can hold.
    V_UNIT: gl.constexpr = 1.0 if V_KV == DENSE else (4.0 if V_KV == INT4 else 64.0)
    DTYPE: gl.constexpr = gl.bfloat16 if BF16 else gl.float16
    INNER: gl.constexpr = DTYPE if K_KV == DENSE else gl.float16
    K_WORDS: gl.constexpr = words_of(K_KV, DP)
    V_WORDS: gl.constexpr = words_of(V_KV, DP)
    PIECE: gl.constexpr = piece_of(V_KV, DP)
    LQ: gl.constexpr = rows_layout(W, ROWS, HALF, 4)
    LK: gl.constexpr = rows_layout(W, T, K_WORDS, 4 if K_KV == DENSE else 2)
    LV: gl.constexpr = columns_layout(W, T, V_WORDS, 4 if V_KV == DENSE else PIECE // 4)
    LM: gl.constexpr = gl.NVMMADistributedLayout([2, 0], [W, 1, 1], [1, 16, 8])
    LA: gl.constexpr = gl.DotOperandLayout(0, LM, 8)
    LB: gl.constexpr = gl.DotOperandLayout(1, LM, 8)
    LP: gl.constexpr = gl.DotOperandLayout(0, LM, 2)
    LU: gl.constexpr = gl.DotOperandLayout(1, LM, 2)
    LR: gl.constexpr = gl.SliceLayout(2, LM)
    LT: gl.constexpr = gl.SliceLayout(1, LM)
    LKT: gl.constexpr = gl.SliceLayout(2, LK)
    LVT: gl.constexpr = gl.SliceLayout(2, LV)
    WC: gl.constexpr = W if W < DP // 64 else DP // 64
    LF: gl.constexpr = gl.BlockedLayout([W, 1, 2], [1, 1, 32], [1, W // WC, WC], [2, 1, 0])
    LF1: gl.constexpr = gl.BlockedLayout([1, 1, 2], [1, 1, 32], [1, W // WC, WC], [2, 1, 0])
    LY: gl.constexpr = gl.SliceLayout(0, LF)
    LG: gl.constexpr = gl.SliceLayout(0, gl.SliceLayout(2, LF))
    LYG: gl.constexpr = gl.SliceLayout(1, LY)
    if PDL:
        dependents_may_start()
    split = gl.program_id(0)
    kv_head = gl.program_id(1)
    part = 0
    held = SHARE
    if PARTS > 1:
        part = kv_head % PARTS
        kv_head = kv_head // PARTS
        held = gl.minimum(GROUP - part * SHARE, SHARE)
    first_head = kv_head * GROUP + part * SHARE
    row = gl.program_id(2)
    # Lengths, positions, pages and older tokens are complete since the last full boundary of the
    # stream; see attend.py. Past L1, which may hold the step before.
    length = gl.load(lengths_ptr + row, cache_modifier=".cg")
    position = gl.load(positions_ptr + row, cache_modifier=".cg")
    p_table = table_ptr + row * table_stride
    own_k = own_tokens(W, T, LKT)
    own_v = own_tokens(W, T, LVT)
    first = 0
    if WINDOWED:
        first = gl.maximum(length - window, 0)
    old = gl.maximum(length - 1, first)
    first_tile = first // TILE
    t_k = (first_tile + split) * TILE + own_k
    t_v = (first_tile + split) * TILE + own_v
    page_k = pages_of(p_table, t_k, capacity, PAGE)
    page_v = pages_of(p_table, t_v, capacity, PAGE)
    end_tile = gl.where(old > first, (old + TILE - 1) // TILE, first_tile)
    tiles = end_tile - first_tile
    active = gl.where(tiles <= ALONE, 1, gl.minimum(tiles, SPLITS))
    if split >= active:
        return
    mine = (split == active - 1) & (length > 0)

    m_k = (t_k < old) & (t_k >= first)
    m_v = (t_v < old) & (t_v >= first)
    vector_k = (page_k * PAGE + t_k % PAGE) * HK + kv_head
    vector_v = (page_v * PAGE + t_v % PAGE) * HK + kv_head
    k_raw = read(k_ptr, vector_k, m_k, D, DP, K_KV, LK)
    v_raw = read(v_ptr, vector_v, m_v, D, DP, V_KV, LV)
    k_pair = read_params(k_params_ptr, vector_v, m_v, K_KV)
    v_pair = read_params(v_params_ptr, vector_v, m_v, V_KV)
    t_k += active * TILE
    t_v += active * TILE
    page_k = pages_of(p_table, t_k, capacity, PAGE)
    page_v = pages_of(p_table, t_v, capacity, PAGE)

    i = gl.set_auto_layout(gl.arange(0, HALF)[None, None, :], LQ)
    r = gl.set_auto_layout(gl.arange(0, ROWS)[None, :, None], LQ)
    w = gl.set_auto_layout(gl.arange(0, W)[:, None, None], LQ)
    d, real = head_column(i * 2, D, DP, K_KV)
    pair_of_d = d // 2
    turning = real & (pair_of_d < ROTARY_HALF)
    at_turn = gl.maximum(position, 0) * ROTARY_HALF + pair_of_d
    c = gl.load(cos_ptr + at_turn, mask=turning, other=1.0)
    s = gl.load(sin_ptr + at_turn, mask=turning, other=0.0)
    if PDL:
        wait_for_producers()

    heads_row = row * (HQ + 2 * HK)
    here = real & (w >= 0)
    p_q = qkv_ptr + (heads_row + first_head + r) * (D // 2) + pair_of_d
    q_even, q_odd = wide_halves(gl.load(p_q + w * 0, mask=here & (r < held), other=0), BF16)
    if HEAD_NORM:
        w_even, w_odd = wide_halves(gl.load(q_weight_ptr + pair_of_d, mask=real, other=0), BF16)
        q_even, q_odd = normed(q_even, q_odd, w_even, w_odd, eps, D, DTYPE)
    q_even, q_odd = turned(q_even, q_odd, c, s, DTYPE)

    smem_row: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [1, 0])
    s_newest = gl.allocate_shared_memory(gl.float32, [W, ROWS], smem_row)
    s_scale = gl.allocate_shared_memory(gl.float32, [W, ROWS], smem_row)
    s_minimum = gl.allocate_shared_memory(gl.float32, [W, ROWS], smem_row)
    if mine:
        keep_newest(
            (qkv_ptr, k_weight_ptr, slots_ptr),
            (k_ptr, k_store_ptr, k_params_ptr),
            (v_ptr, v_store_ptr, v_params_ptr),
            (s_newest, s_scale, s_minimum),
            row,
            heads_row,
            kv_head,
            part,
            (w, r, i),
            (pair_of_d, real),
            (q_even, q_odd),
            (c, s),
            eps,
            scale_log2,
            cap_log2,
            HQ,
            HK,
            PARTS,
            D,
            DP,
            K_KV,
            V_KV,
            BF16,
            HEAD_NORM,
            CAPPED,
            W,
            ROWS,
            LQ,
        )

    unit = gl.full([W, 16], 1.0, gl.float32, LR) * scale_log2
    if K_KV != DENSE and BF16:
        # A power of two brings q into fp16's range.
        largest = gl.max(gl.maximum(gl.abs(q_even), gl.abs(q_odd)), 2)
        exponent = largest.to(gl.int32, bitcast=True) & 0x7F800000
        shrink = ((254 << 23) - exponent).to(gl.float32, bitcast=True)[:, :, None]
        q_even = q_even * shrink
        q_odd = q_odd * shrink
        grow = gl.where(exponent > 0, exponent.to(gl.float32, bitcast=True), 0.0)
        if ROWS == 8:
            grow = gl.permute(gl.join(grow, gl.zeros_like(grow)), (0, 2, 1))
            grow = gl.reshape(grow, [W, 16])
        unit = unit * gl.convert_layout(grow, LR, assert_trivial=True)
    q = gl.reshape(gl.join(q_even.to(INNER), q_odd.to(INNER)), [W, ROWS, DP])
    if SHIFTED:
        q_sum = gl.sum(q.to(gl.float32), 2)
        if ROWS == 8:
            q_sum = gl.permute(gl.join(q_sum, gl.zeros_like(q_sum)), (0, 2, 1))
            q_sum = gl.reshape(q_sum, [W, 16])
        q_sum = gl.convert_layout(q_sum, LR, assert_trivial=True)
    if ROWS == 8:
        q = sixteen(q, W, DP)
    q = gl.convert_layout(q, LA, assert_trivial=True)

    top = gl.full([W, 16], -float("inf"), gl.float32, LR)
    norm = gl.zeros([W, 16], gl.float32, LR)
    shift = gl.zeros([W, 16], gl.float32, LR)
    acc = gl.zeros([W, 16, DP], gl.float32, LM)
    blank = gl.zeros([W, 16, T], gl.float32, LM)
    for _ in range(first_tile + split, end_tile, active):
        m_now = gl.convert_layout(m_v, LT, assert_trivial=True)
        k_now = gl.convert_layout(k_pair, LT, assert_trivial=True)
        v_now = gl.convert_layout(v_pair, LT, assert_trivial=True)
        m_k = t_k < old
        m_v = t_v < old
        vector_k = (page_k * PAGE + t_k % PAGE) * HK + kv_head
        vector_v = (page_v * PAGE + t_v % PAGE) * HK + kv_head
        t_k += active * TILE
        t_v += active * TILE
        k = gl.permute(unpack(k_raw, W, T, DP, K_KV, DTYPE, FP8_UNIT), (0, 2, 1))
        k = gl.convert_layout(k, LB, assert_trivial=True)
        scores = gl.nvidia.ampere.mma_v2(q, k, blank)
        k_raw = read(k_ptr, vector_k, m_k, D, DP, K_KV, LK)
        k_pair = read_params(k_params_ptr, vector_v, m_v, K_KV)
        page_k = pages_of(p_table, t_k, capacity, PAGE)
        if K_KV == FP8:
            scores = scores * k_now.to(gl.float32)[:, None, :]
        elif K_KV != DENSE:
            k_scale, k_minimum = pair_params(k_now)
            lift = k_minimum + K_MIDDLE * k_scale
            scores = scores * k_scale[:, None, :] + lift[:, None, :] * q_sum[:, :, None]
        scores = scores * unit[:, :, None]
        if CAPPED:
            scores = soft_cap(scores, cap_log2)
        scores = gl.where(m_now[:, None, :], scores, -float("inf"))
        new_top = gl.maximum(top, gl.max(scores, 2))
        base = gl.where(new_top == -float("inf"), 0.0, new_top)
        keep = gl.exp2(top - base)
        top = new_top
        p = gl.exp2(scores - base[:, :, None])
        norm = norm * keep + gl.sum(p, 2)
        if V_KV == FP8:
            p = p * (v_now.to(gl.float32) * V_UNIT)[:, None, :]
        elif V_KV != DENSE:
            v_scale, v_minimum = pair_params(v_now)
            lift = v_minimum + V_MIDDLE * v_scale
            shift = shift * keep + gl.sum(p * lift[:, None, :], 2)
            p = p * (v_scale * V_UNIT)[:, None, :]
        weights = gl.convert_layout(p.to(INNER), LP, assert_trivial=True)
        v = unpack(v_raw, W, T, DP, V_KV, DTYPE, FP8_UNIT)
        v = gl.convert_layout(out_of_order(v, W, T, DP, PIECE), LU, assert_trivial=True)
        acc = gl.nvidia.ampere.mma_v2(weights, v, acc * keep[:, :, None])
        v_raw = read(v_ptr, vector_v, m_v, D, DP, V_KV, LV)
        v_pair = read_params(v_params_ptr, vector_v, m_v, V_KV)
        page_v = pages_of(p_table, t_v, capacity, PAGE)

    # All warps' parts into one, then the newest token.
    s_top = gl.allocate_shared_memory(gl.float32, [W, ROWS], smem_row)
    s_norm = gl.allocate_shared_memory(gl.float32, [W, ROWS], smem_row)
    s_shift = gl.allocate_shared_memory(gl.float32, [W, ROWS], smem_row)
    PADDED: gl.constexpr = gl.PaddedSharedLayout.with_identity_for(
        [[DP, 4]], [W, ROWS, DP], [2, 1, 0]
    )
    s_acc = gl.allocate_shared_memory(gl.float32, [W, ROWS, DP], PADDED)
    s_top.store(first_rows(top, W, ROWS))
    s_norm.store(first_rows(norm, W, ROWS))
    if SHIFTED:
        s_shift.store(first_rows(shift, W, ROWS))
    y16 = in_order(acc, W, 16, DP, PIECE)
    if ROWS == 8:
        y16, _ = gl.split(gl.permute(gl.reshape(y16, [W, 2, 8, DP]), (0, 2, 3, 1)))
    s_acc.store(y16)
    LFW: gl.constexpr = gl.SliceLayout(2, LF)
    part_top = s_top.slice(0, GP, dim=1).load(LFW)
    part_norm = s_norm.slice(0, GP, dim=1).load(LFW)
    part_acc = s_acc.slice(0, GP, dim=1).load(LF)
    newest = one_warp(s_newest, 0, GP, LF1, LG)
    newest = gl.where(mine, newest, -float("inf"))
    highest = gl.maximum(gl.max(part_top, 0), newest)
    base = gl.where(highest == -float("inf"), 0.0, highest)
    keep = gl.exp2(part_top - base[None, :])
    fresh = gl.exp2(newest - base)
    total = gl.sum(part_norm * keep, 0) + fresh
    y = gl.sum(part_acc * keep[:, :, None], 0) * (1.0 / V_UNIT)
    if SHIFTED:
        part_shift = s_shift.slice(0, GP, dim=1).load(LFW)
        moved = gl.convert_layout(gl.sum(part_shift * keep, 0), LYG, assert_trivial=True)
        y += moved[:, None]
    g = gl.set_auto_layout(gl.arange(0, GP)[:, None], LY)
    column = gl.set_auto_layout(gl.arange(0, DP)[None, :], LY)
    d, real = head_column(column, D, DP, V_KV)
    if mine:
        p_new = new_ptr + (heads_row + HQ + HK + kv_head) * D + d
        v_new = gl.load(p_new, mask=real, other=0.0).to(gl.float32)
        scale = one_warp(s_scale, 1, GP, LF1, LYG)[:, None]
        minimum = one_warp(s_minimum, 1, GP, LF1, LYG)[:, None]
        inverse = inverse_of(scale)
        _v_code, v_seen = stored(v_new, scale, minimum, inverse, top_code(V_KV), V_KV)
        y += gl.convert_layout(fresh, LYG, assert_trivial=True)[:, None] * v_seen
    m_y = (g < held) & real
    head = row * HQ + first_head
    out_type: gl.constexpr = out_ptr.dtype.element_ty
    if active <= 1:
        sums = gl.convert_layout(total, LYG, assert_trivial=True)
        y = y / gl.where(sums > 0.0, sums, 1.0)[:, None]
        gl.store(out_ptr + (head + g) * D + d, y.to(out_type), mask=m_y)
    else:
        first_slot = head * SPLITS
        at_part = first_slot + split * held
        gl.store(partial_ptr + (at_part + g) * D + d, y, mask=m_y)
        g1 = gl.set_auto_layout(gl.arange(0, GP), LG)
        gl.store(stats_ptr + (at_part + g1) * 2, base, mask=g1 < held)
        gl.store(stats_ptr + (at_part + g1) * 2 + 1, total, mask=g1 < held)
        everyone_arrives()
        p_arrived = arrived_ptr + (row * HK + kv_head) * PARTS + part
        if gl.atomic_add(p_arrived, 1, sem="acq_rel") == active - 1:
            p_out = out_ptr + head * D
            combine(partial_ptr, stats_ptr, p_out, first_slot, active, held, D, DP, GP, SP, V_KV, W)
            gl.store(p_arrived, 0)
