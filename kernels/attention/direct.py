"""Decode attention that reads pages straight into the lanes that use them: the fast path.

For 16-bit and int8 pages on SM 80 and up; what it computes and who writes what is as in attend.py.
A lane owns eight values of a head for all query heads of the group and walks over its own tokens
with a running softmax of its own, so nothing is exchanged before the end. Values of a head are held
as even and odd halves of their pairs, so that rotary turns stay within a lane.
Shapes: U tokens of a lane at once, T lanes' tokens, G query heads, P pairs.
"""

from __future__ import annotations

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from .._gluon import (
    dependents_may_start,
    everyone_arrives,
    pair_high,
    pair_low,
    wait_for_producers,
)
from .._launch import launch_options, power_of_2
from .splits import Splits
from .workspace import Workspace

MIN_TOKENS = gl.constexpr(128)
"""Tokens of a context that are not worth another program."""

_BYTES = gl.constexpr("""
    {
    .reg .b32 k;
    mov.b32 k, 0x4b000000;
    prmt.b32 $0, $4, k, 0x7650;
    prmt.b32 $1, $4, k, 0x7651;
    prmt.b32 $2, $4, k, 0x7652;
    prmt.b32 $3, $4, k, 0x7653;
    add.f32 $0, $0, 0fCB000000;
    add.f32 $1, $1, 0fCB000000;
    add.f32 $2, $2, 0fCB000000;
    add.f32 $3, $3, 0fCB000000;
    }""")


@gluon.jit
def _larger(a, b):
    return gl.maximum(a, b)


@gluon.jit
def _normed(even, odd, w_even, w_odd, eps, D: gl.constexpr, DTYPE: gl.constexpr):
    """Head norm of [..., P] halves, rounded as norm/reference.py does."""
    squares = gl.sum(even * even + odd * odd, 3)
    inverse = gl.expand_dims(1.0 / gl.sqrt_rn(squares / D + eps), 3)
    even = (even * inverse).to(DTYPE).to(gl.float32)
    odd = (odd * inverse).to(DTYPE).to(gl.float32)
    even = (even * w_even).to(DTYPE).to(gl.float32)
    odd = (odd * w_odd).to(DTYPE).to(gl.float32)
    return even, odd


@gluon.jit
def _turned(even, odd, c, s, DTYPE: gl.constexpr):
    """Rotated pairs, rounded once."""
    turned_even = (even * c - odd * s).to(DTYPE).to(gl.float32)
    turned_odd = (even * s + odd * c).to(DTYPE).to(gl.float32)
    return turned_even, turned_odd


@gluon.jit
def _stored(even, odd, DTYPE: gl.constexpr, INT8: gl.constexpr):
    """(codes of the halves, scale and minimum in fp16, the halves as read back) of one vector."""
    if INT8:
        low = gl.min(gl.minimum(even, odd), 3, keep_dims=True)
        high = gl.max(gl.maximum(even, odd), 3, keep_dims=True)
        scale_16 = gl.div_rn(high - low, gl.full_like(low, 255.0)).to(gl.float16)
        minimum_16 = low.to(gl.float16)
        scale = scale_16.to(gl.float32)
        minimum = minimum_16.to(gl.float32)
        step = gl.where(scale == 0.0, 1.0, scale)
        inverse = gl.where(scale == 0.0, 0.0, gl.div_rn(gl.full_like(step, 1.0), step))
        code_even = _code(even, minimum, inverse)
        code_odd = _code(odd, minimum, inverse)
        even = code_even * scale + minimum
        odd = code_odd * scale + minimum
        code_even = code_even.to(gl.int32).to(gl.uint8)
        code_odd = code_odd.to(gl.int32).to(gl.uint8)
    else:
        zero = gl.sum(even, 3, keep_dims=True) * 0.0
        scale_16 = zero.to(gl.float16)
        minimum_16 = scale_16
        code_even = even.to(DTYPE)
        code_odd = odd.to(DTYPE)
    return code_even, code_odd, scale_16, minimum_16, even, odd


@gluon.jit
def _code(x, minimum, inverse):
    steps = gl.minimum(gl.maximum((x - minimum) * inverse, 0.0), 255.0)
    return (steps + 12582912.0) - 12582912.0  # 1.5 * 2**23: half to even


@gluon.jit
def _joined(even, odd, ROWS: gl.constexpr, D: gl.constexpr, LO: gl.constexpr):
    """Halves [1, 1, ROWS, P] as whole heads [1, 1, ROWS, D]; registers stay where they are."""
    whole = gl.reshape(gl.join(even, odd), [1, 1, ROWS, D])
    return gl.convert_layout(whole, LO, assert_trivial=True)


@gluon.jit
def _fetch(
    k_ptr,
    v_ptr,
    k_params_ptr,
    v_params_ptr,
    p_table,
    t,
    end,
    capacity,
    kv_head,
    HK: gl.constexpr,
    D: gl.constexpr,
    PAGE: gl.constexpr,
    INT8: gl.constexpr,
    LW: gl.constexpr,
):
    """Raw words [U, T, words] of K and V at tokens t [U, T, 1] and, int8, their params [U, T, 1]."""
    WORDS: gl.constexpr = D // 4 if INT8 else D // 2
    inside = t < end
    page = gl.load(p_table + t // PAGE, mask=inside & (t < capacity), other=0)
    vector = (page * PAGE + t % PAGE) * HK + kv_head
    i = gl.set_auto_layout(gl.arange(0, WORDS)[None, None, :], LW)
    offset = vector.to(gl.int64) * WORDS + i
    mask = inside & (i >= 0)
    k = gl.load(k_ptr + offset, mask=mask, other=0)
    v = gl.load(v_ptr + offset, mask=mask, other=0)
    k_pair = vector * 0
    v_pair = k_pair
    if INT8:
        k_pair = gl.load(k_params_ptr + vector, mask=inside, other=0)
        v_pair = gl.load(v_params_ptr + vector, mask=inside, other=0)
    return k, v, k_pair, v_pair


@gluon.jit
def _halves(
    words,
    U: gl.constexpr,
    T: gl.constexpr,
    P: gl.constexpr,
    INT8: gl.constexpr,
    BF16: gl.constexpr,
    LX: gl.constexpr,
):
    """Words as fp32 even and odd values [U, T, 1, P]; int8 codes as they are."""
    LH: gl.constexpr = gl.SliceLayout(2, LX)
    if INT8:
        e0, e1, e2, e3 = gl.inline_asm_elementwise(
            _BYTES,
            "=&r,=&r,=&r,=&r,r",
            [words],
            (gl.float32, gl.float32, gl.float32, gl.float32),
            True,
            1,
        )
        even = gl.reshape(gl.join(e0, e2), [U, T, P])
        odd = gl.reshape(gl.join(e1, e3), [U, T, P])
    else:
        even = pair_low(words, BF16)
        odd = pair_high(words, BF16)
    even = gl.convert_layout(even, LH, assert_trivial=True)
    odd = gl.convert_layout(odd, LH, assert_trivial=True)
    return gl.expand_dims(even, 2), gl.expand_dims(odd, 2)


@gluon.jit
def direct_attend_kernel(
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
    out_ptr,
    partial_ptr,
    stats_ptr,
    arrived_ptr,
    eps,
    scale_log2,
    window,
    table_stride,
    capacity,
    HQ: gl.constexpr,
    HK: gl.constexpr,
    D: gl.constexpr,
    GP: gl.constexpr,
    ROTARY_HALF: gl.constexpr,
    PAGE: gl.constexpr,
    SPLITS: gl.constexpr,
    SP: gl.constexpr,
    INT8: gl.constexpr,
    BF16: gl.constexpr,
    HEAD_NORM: gl.constexpr,
    WINDOWED: gl.constexpr,
    PDL: gl.constexpr,
    W: gl.constexpr,
    U: gl.constexpr,
):
    """Pages are read as int32 words by k_ptr and v_ptr and written by k_store_ptr, v_store_ptr."""
    GROUP: gl.constexpr = HQ // HK
    P: gl.constexpr = D // 2
    LANES: gl.constexpr = D // 8
    T: gl.constexpr = W * (32 // LANES)
    DTYPE: gl.constexpr = gl.bfloat16 if BF16 else gl.float16
    LX: gl.constexpr = gl.BlockedLayout(
        [U, 1, GP, 4], [1, 32 // LANES, 1, LANES], [1, W, 1, 1], [3, 2, 1, 0]
    )
    # The same for what has no tokens of a lane in it.
    LQ: gl.constexpr = gl.BlockedLayout(
        [1, 1, GP, 4], [1, 32 // LANES, 1, LANES], [1, W, 1, 1], [3, 2, 1, 0]
    )
    LO: gl.constexpr = gl.BlockedLayout(
        [1, 1, GP, 8], [1, 32 // LANES, 1, LANES], [1, W, 1, 1], [3, 2, 1, 0]
    )
    LW: gl.constexpr = gl.BlockedLayout(
        [U, 1, 2 if INT8 else 4], [1, 32 // LANES, LANES], [1, W, 1], [2, 1, 0]
    )
    if PDL:
        dependents_may_start()
    split = gl.program_id(0)
    kv_head = gl.program_id(1)
    row = gl.program_id(2)
    # Lengths, positions, pages and older tokens are complete since the last full boundary of the
    # stream; see attend.py. Past L1, which may hold the step before.
    length = gl.load(lengths_ptr + row, cache_modifier=".cg")
    position = gl.load(positions_ptr + row, cache_modifier=".cg")
    first = 0
    if WINDOWED:
        first = gl.maximum(length - window, 0)
    old = gl.maximum(length - 1, first)
    active = gl.minimum((old - first + MIN_TOKENS - 1) // MIN_TOKENS, SPLITS)
    active = gl.maximum(active, 1)
    if split >= active:
        return
    span = (old - first + active - 1) // active
    span = (span + U * T - 1) // (U * T) * (U * T)
    begin = first + split * span
    end = gl.minimum(begin + span, old)
    # The program whose tokens end with the newest; rounding may leave the last ones empty.
    owner = gl.where(old > first, (old - first - 1) // gl.maximum(span, 1), 0)

    u = gl.arange(0, U)[:, None, None]
    lane_t = gl.arange(0, T)[None, :, None]
    offsets = gl.set_auto_layout(u * T + lane_t, LW)
    p_table = table_ptr + row * table_stride
    k_raw, v_raw, k_pair, v_pair = _fetch(
        k_ptr,
        v_ptr,
        k_params_ptr,
        v_params_ptr,
        p_table,
        begin + offsets,
        end,
        capacity,
        kv_head,
        HK,
        D,
        PAGE,
        INT8,
        LW,
    )
    g = gl.set_auto_layout(gl.arange(0, GP)[None, None, :, None], LQ)
    i = gl.set_auto_layout(gl.arange(0, P)[None, None, None, :], LQ)
    turning = (i < ROTARY_HALF) & (position >= 0)
    c = gl.load(cos_ptr + position * ROTARY_HALF + i, mask=turning, other=1.0)
    s = gl.load(sin_ptr + position * ROTARY_HALF + i, mask=turning, other=0.0)
    if PDL:
        wait_for_producers()

    d = gl.set_auto_layout(gl.arange(0, D)[None, None, None, :], LO)
    heads_row = row * (HQ + 2 * HK)
    p_q = qkv_ptr + (heads_row + kv_head * GROUP + g) * P + i
    q_pair = gl.load(p_q, mask=(g < GROUP) & (i >= 0), other=0)
    q_even = pair_low(q_pair, BF16)
    q_odd = pair_high(q_pair, BF16)
    p_new = qkv_ptr + (heads_row + HQ + kv_head) * P + i
    k_new = gl.load(p_new)
    v_new = gl.load(p_new + HK * P)
    if HEAD_NORM:
        q_w = gl.load(q_weight_ptr + i)
        q_even, q_odd = _normed(
            q_even, q_odd, pair_low(q_w, BF16), pair_high(q_w, BF16), eps, D, DTYPE
        )
    q_even, q_odd = _turned(q_even, q_odd, c, s, DTYPE)
    q_sum = gl.sum(q_even + q_odd, 3, keep_dims=True)

    top = gl.full([1, T, GP, 1], -float("inf"), gl.float32, LQ)
    norm = gl.zeros([1, T, GP, 1], gl.float32, LQ)
    shift = norm
    acc_even = gl.zeros([1, T, GP, P], gl.float32, LQ)
    q_even_x = gl.convert_layout(q_even, LX)
    q_odd_x = gl.convert_layout(q_odd, LX)
    q_sum_x = gl.convert_layout(q_sum, LX)
    acc_odd = acc_even
    offsets_x = gl.set_auto_layout(
        gl.arange(0, U)[:, None, None, None] * T + gl.arange(0, T)[None, :, None, None], LX
    )
    for start in range(begin, end, U * T):
        k_even, k_odd = _halves(k_raw, U, T, P, INT8, BF16, LX)
        v_even, v_odd = _halves(v_raw, U, T, P, INT8, BF16, LX)
        k_now = gl.convert_layout(gl.reshape(k_pair, [U, T, 1, 1]), LX, assert_trivial=True)
        v_now = gl.convert_layout(gl.reshape(v_pair, [U, T, 1, 1]), LX, assert_trivial=True)
        k_raw, v_raw, k_pair, v_pair = _fetch(
            k_ptr,
            v_ptr,
            k_params_ptr,
            v_params_ptr,
            p_table,
            start + U * T + offsets,
            end,
            capacity,
            kv_head,
            HK,
            D,
            PAGE,
            INT8,
            LW,
        )
        scores = gl.sum(q_even_x * k_even + q_odd_x * k_odd, 3, keep_dims=True)
        if INT8:
            scores = scores * pair_low(k_now, False) + pair_high(k_now, False) * q_sum_x
        scores = gl.where(start + offsets_x < end, scores * scale_log2, -float("inf"))
        best = gl.convert_layout(gl.max(scores, 0, keep_dims=True), LQ)
        new_top = gl.maximum(top, best)
        base = gl.where(new_top == -float("inf"), 0.0, new_top)
        keep = gl.exp2(top - base)
        top = new_top
        p = gl.exp2(scores - gl.convert_layout(base, LX))
        norm = norm * keep + gl.convert_layout(gl.sum(p, 0, keep_dims=True), LQ)
        if INT8:
            moved = gl.sum(p * pair_high(v_now, False), 0, keep_dims=True)
            shift = shift * keep + gl.convert_layout(moved, LQ)
            p = p * pair_low(v_now, False)
        sum_even = gl.sum(p * v_even, 0, keep_dims=True)
        sum_odd = gl.sum(p * v_odd, 0, keep_dims=True)
        acc_even = acc_even * keep + gl.convert_layout(sum_even, LQ)
        acc_odd = acc_odd * keep + gl.convert_layout(sum_odd, LQ)

    # The newest token, as stored; every program computes it, its owner alone stores and counts it.
    k_even = pair_low(k_new, BF16)
    k_odd = pair_high(k_new, BF16)
    if HEAD_NORM:
        k_w = gl.load(k_weight_ptr + i)
        k_even, k_odd = _normed(
            k_even, k_odd, pair_low(k_w, BF16), pair_high(k_w, BF16), eps, D, DTYPE
        )
    k_even, k_odd = _turned(k_even, k_odd, c, s, DTYPE)
    kc_even, kc_odd, k_scale, k_minimum, k_even, k_odd = _stored(k_even, k_odd, DTYPE, INT8)
    vc_even, vc_odd, v_scale, v_minimum, v_even, v_odd = _stored(
        pair_low(v_new, BF16), pair_high(v_new, BF16), DTYPE, INT8
    )
    mine = (split == owner) & (length > 0)
    newest = gl.sum(q_even * k_even + q_odd * k_odd, 3, keep_dims=True) * scale_log2
    newest = gl.where(mine, newest, -float("inf"))
    slot = gl.load(slots_ptr + row)
    if mine & (slot >= 0):
        at = (slot * HK + kv_head) * D + d
        if INT8:
            pair = slot * HK + kv_head + i * 0
            gl.store(k_params_ptr + pair, _pair_bits(k_scale, k_minimum) + i * 0, mask=i == 0)
            gl.store(v_params_ptr + pair, _pair_bits(v_scale, v_minimum) + i * 0, mask=i == 0)
        gl.store(k_store_ptr + at, _joined(kc_even, kc_odd, 1, D, LO))
        gl.store(v_store_ptr + at, _joined(vc_even, vc_odd, 1, D, LO))

    # All lanes' parts into one, then the newest token.
    highest = gl.maximum(gl.max(top, 1, keep_dims=True), newest)  # [1, 1, GP, 1]
    base = gl.where(highest == -float("inf"), 0.0, highest)
    keep = gl.exp2(top - base)
    fresh = gl.exp2(newest - base)
    total = gl.sum(norm * keep, 1, keep_dims=True) + fresh
    y_even = gl.sum(acc_even * keep, 1, keep_dims=True) + fresh * v_even
    y_odd = gl.sum(acc_odd * keep, 1, keep_dims=True) + fresh * v_odd
    if INT8:
        shifted = gl.sum(shift * keep, 1, keep_dims=True)
        y_even += shifted
        y_odd += shifted
    in_group = g < GROUP
    head = row * HQ + kv_head * GROUP
    out_type: gl.constexpr = out_ptr.dtype.element_ty
    if active <= 1:
        inverse = 1.0 / gl.where(total > 0.0, total, 1.0)
        y = _joined((y_even * inverse).to(out_type), (y_odd * inverse).to(out_type), GP, D, LO)
        g_out = gl.set_auto_layout(gl.arange(0, GP)[None, None, :, None], LO)
        gl.store(out_ptr + (head + g_out) * D + d, y, mask=(g_out < GROUP) & (d >= 0))
    else:
        first_slot = (row * HK + kv_head) * (SPLITS * GROUP)
        # A part is its even values, then its odd ones.
        p_part = partial_ptr + (first_slot + split * GROUP + g) * D + i
        m_part = in_group & (i >= 0)
        gl.store(p_part, y_even, mask=m_part)
        gl.store(p_part + P, y_odd, mask=m_part)
        p_stats = stats_ptr + (first_slot + split * GROUP + g) * 2
        gl.store(p_stats, base, mask=in_group)
        gl.store(p_stats + 1, total, mask=in_group)
        everyone_arrives()
        p_arrived = arrived_ptr + row * HK + kv_head
        if gl.atomic_add(p_arrived, 1, sem="acq_rel") == active - 1:
            _combine(
                partial_ptr, stats_ptr, out_ptr + head * D, first_slot, active, GROUP, D, GP, SP, W
            )
            gl.store(p_arrived, 0)


@gluon.jit
def _pair_bits(scale, minimum):
    low = scale.to(gl.int16, bitcast=True).to(gl.int32) & 65535
    return low | (minimum.to(gl.int16, bitcast=True).to(gl.int32) << 16)


@gluon.jit
def _combine(
    partial_ptr,
    stats_ptr,
    out_ptr,
    first_slot,
    active,
    GROUP: gl.constexpr,
    D: gl.constexpr,
    GP: gl.constexpr,
    SP: gl.constexpr,
    W: gl.constexpr,
):
    """out [GROUP, D] from the parts of `active` splits, always in the same order."""
    P: gl.constexpr = D // 2
    LANES: gl.constexpr = D // 8
    LC: gl.constexpr = gl.BlockedLayout([SP, 1, 4], [1, 32 // LANES, LANES], [1, W, 1], [2, 1, 0])
    LO: gl.constexpr = gl.BlockedLayout([1, 8], [32 // LANES, LANES], [W, 1], [1, 0])
    split = gl.set_auto_layout(gl.arange(0, SP)[:, None, None], LC)
    g = gl.set_auto_layout(gl.arange(0, GP)[None, :, None], LC)
    i = gl.set_auto_layout(gl.arange(0, P)[None, None, :], LC)
    m = (split < active) & (g < GROUP)
    slot = first_slot + split * GROUP + g
    # Past L1: other multiprocessors have written these.
    p_part = partial_ptr + slot * D + i
    m_part = m & (i >= 0)
    even = gl.load(p_part, mask=m_part, other=0.0, cache_modifier=".cg")
    odd = gl.load(p_part + P, mask=m_part, other=0.0, cache_modifier=".cg")
    top = gl.load(stats_ptr + slot * 2, mask=m, other=-float("inf"), cache_modifier=".cg")
    norm = gl.load(stats_ptr + slot * 2 + 1, mask=m, other=0.0, cache_modifier=".cg")
    highest = gl.max(top, 0, keep_dims=True)
    share = gl.exp2(top - gl.where(highest == -float("inf"), 0.0, highest))
    total = gl.sum(norm * share, 0, keep_dims=True)
    share = share / gl.where(total > 0.0, total, 1.0)
    y_even = gl.sum(even * share, 0)
    y_odd = gl.sum(odd * share, 0)
    dtype: gl.constexpr = out_ptr.dtype.element_ty
    whole = gl.reshape(gl.join(y_even.to(dtype), y_odd.to(dtype)), [GP, D])
    go = gl.set_auto_layout(gl.arange(0, GP)[:, None], LO)
    do = gl.set_auto_layout(gl.arange(0, D)[None, :], LO)
    mask = (go < GROUP) & (do >= 0)
    gl.store(out_ptr + go * D + do, gl.convert_layout(whole, LO), mask=mask)


def launch(
    qkv: torch.Tensor,
    positions: torch.Tensor,
    seq_lens: torch.Tensor,
    slots: torch.Tensor,
    block_table: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    *,
    heads: int,
    scale_log2: float,
    int8: bool,
    window: int,
    k_params: torch.Tensor | None,
    v_params: torch.Tensor | None,
    q_weight: torch.Tensor | None,
    k_weight: torch.Tensor | None,
    eps: float,
    out: torch.Tensor,
    workspace: Workspace,
    splits: Splits,
    dependent: bool,
) -> None:
    """Writes out [M, heads * D]; arguments are those of attend.attend, which has checked them."""
    page_tokens, kv_heads, head_dim = k_cache.shape[1:]
    words = (k_cache.view(torch.int32), v_cache.view(torch.int32))
    params = tuple(None if p is None else p.view(torch.int32) for p in (k_params, v_params))
    weights = tuple(None if w is None else w.view(torch.int32) for w in (q_weight, k_weight))
    direct_attend_kernel[(splits.count, kv_heads, qkv.shape[0])](
        qkv.view(torch.int32),
        positions,
        seq_lens,
        slots,
        block_table,
        cos,
        sin,
        *weights,
        *words,
        *params,
        k_cache,
        v_cache,
        out,
        workspace.partial,
        workspace.stats,
        workspace.arrived,
        eps,
        scale_log2,
        window,
        block_table.stride(0),
        block_table.shape[1] * page_tokens,
        HQ=heads,
        HK=kv_heads,
        D=head_dim,
        GP=power_of_2(heads // kv_heads),
        ROTARY_HALF=cos.shape[1],
        PAGE=page_tokens,
        SPLITS=splits.count,
        SP=power_of_2(splits.count),
        INT8=int8,
        BF16=qkv.dtype == torch.bfloat16,
        HEAD_NORM=q_weight is not None,
        WINDOWED=window > 0,
        PDL=dependent,
        W=splits.warps,
        U=splits.lane_tokens,
        num_warps=splits.warps,
        **launch_options(dependent),
    )
