"""A token's own heads inside the fragment kernel: norm, rotation, and what a page keeps of them.

Values are fp32, held as even and odd halves of their pairs so that turns stay within a lane; the
last axis is a head. Rounding is that of rope_append/reference.py.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from .fragments import DENSE, FP8, INT4, head_column


@gluon.jit
def wide_halves(pair, BF16: gl.constexpr):
    """Both 16-bit values of each word in fp32."""
    if BF16:
        low = (pair << 16).to(gl.float32, bitcast=True)
        high = (pair & -65536).to(gl.float32, bitcast=True)
    else:
        low = pair.to(gl.int16).to(gl.float16, bitcast=True).to(gl.float32)
        high = (pair >> 16).to(gl.int16).to(gl.float16, bitcast=True).to(gl.float32)
    return low, high


@gluon.jit
def _words_from(low, high):
    """Words of two 16-bit values each."""
    bits = low.to(gl.int16, bitcast=True).to(gl.int32) & 65535
    return bits | (high.to(gl.int16, bitcast=True).to(gl.int32) << 16)


@gluon.jit
def normed(even, odd, w_even, w_odd, eps, D: gl.constexpr, DTYPE: gl.constexpr):
    """Heads over their root mean square, times a weight."""
    squares = gl.sum(even * even + odd * odd, 2)
    inverse = (1.0 / gl.sqrt_rn(squares / D + eps))[:, :, None]
    even = (even * inverse).to(DTYPE).to(gl.float32)
    odd = (odd * inverse).to(DTYPE).to(gl.float32)
    even = (even * w_even).to(DTYPE).to(gl.float32)
    odd = (odd * w_odd).to(DTYPE).to(gl.float32)
    return even, odd


@gluon.jit
def turned(even, odd, c, s, DTYPE: gl.constexpr):
    """Rotated pairs, rounded once."""
    turned_even = (even * c - odd * s).to(DTYPE).to(gl.float32)
    turned_odd = (even * s + odd * c).to(DTYPE).to(gl.float32)
    return turned_even, turned_odd


@gluon.jit
def soft_cap(x, cap_log2):
    """cap * tanh(x / cap), both in units of log2(e)."""
    return cap_log2 * (1.0 - 2.0 / (gl.exp2(x * (2.885390081777927 / cap_log2)) + 1.0))


@gluon.constexpr_function
def top_code(kv: int) -> float:
    """Highest code of a format; no matter for those without codes."""
    return 255.0 if kv == 2 else 15.0


@gluon.jit
def _top_codes(value, K_KV: gl.constexpr, V_KV: gl.constexpr):
    """Highest code in fp32: that of K's format where value is 0, elsewhere that of V's."""
    codes = gl.full_like(value, top_code(K_KV), dtype=gl.float32)
    if K_KV != V_KV:
        codes = gl.where(value == 0, codes, top_code(V_KV))
    return codes


@gluon.jit
def _page_params(even, odd, real, levels, KV: gl.constexpr):
    """Scale and minimum in fp16 of each head [W, R], of its columns that are real.

    levels [W, 1]: highest codes; rows of both integer formats may stand together.
    """
    if KV == DENSE:
        scale_16 = gl.max(even, 2).to(gl.float16)
        minimum_16 = scale_16
    elif KV == FP8:
        largest = gl.max(gl.maximum(gl.abs(even), gl.abs(odd)), 2)
        scale_16 = gl.div_rn(largest, gl.full_like(largest, 448.0)).to(gl.float16)
        minimum_16 = scale_16
    else:
        low = gl.min(gl.where(real, gl.minimum(even, odd), float("inf")), 2)
        high = gl.max(gl.where(real, gl.maximum(even, odd), -float("inf")), 2)
        scale_16 = gl.div_rn(high - low, gl.zeros_like(low) + levels).to(gl.float16)
        minimum_16 = low.to(gl.float16)
    return scale_16, minimum_16


@gluon.jit
def inverse_of(scale):
    """1 / scale, rounded; 0 for the scale 0 of a flat vector."""
    step = gl.where(scale == 0.0, 1.0, scale)
    return gl.where(scale == 0.0, 0.0, gl.div_rn(gl.full_like(step, 1.0), step))


@gluon.jit
def stored(x, scale, minimum, inverse, levels, KV: gl.constexpr):
    """Codes int32 of x under the params of its page, and x as a reader will see it."""
    if KV == DENSE:
        code = x.to(gl.int32)
        seen = x
    elif KV == FP8:
        # After a product with 2**-120 fp32 has e4m3's exponents, denormals included.
        magnitude = gl.minimum(gl.abs(x) * inverse, 448.0) * 7.52316384526264e-37
        bits = magnitude.to(gl.int32, bitcast=True)
        bits = (bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20
        code = bits | gl.where(x < 0.0, 128, 0)
        seen = (bits << 20).to(gl.float32, bitcast=True) * 1.329227995784916e36 * scale
        seen = gl.where(x < 0.0, -seen, seen)
    else:
        steps = gl.minimum(gl.maximum((x - minimum) * inverse, 0.0), levels)
        steps = (steps + 12582912.0) - 12582912.0  # 1.5 * 2**23: half to even
        code = steps.to(gl.int32)
        seen = steps * scale + minimum
    return code, seen


@gluon.jit
def _put(
    pages,
    halves,
    vector,
    writes,
    W: gl.constexpr,
    ROWS: gl.constexpr,
    D: gl.constexpr,
    DP: gl.constexpr,
    KV: gl.constexpr,
    L: gl.constexpr,
):
    """Writes a vector of the pages from those (warp, row) that `writes` [W, ROWS] names.

    pages: where its words, bytes and params are; halves: words of 16-bit values, codes of even and
    of odd values, scale and minimum.
    """
    words_ptr, store_ptr, params_ptr = pages
    raw, code_even, code_odd, scale_16, minimum_16 = halves
    if KV == DENSE:
        i = gl.set_auto_layout(gl.arange(0, DP // 2)[None, None, :], L)
        mask = writes[:, :, None] & (i < D // 2)
        gl.store(words_ptr + vector * (D // 2) + i + raw * 0, raw, mask=mask)
    else:
        code = gl.reshape(gl.join(code_even, code_odd), [W, ROWS, DP])
        BYTES: gl.constexpr = D // 2 if KV == INT4 else D
        WIDTH: gl.constexpr = DP // 2 if KV == INT4 else DP
        if KV == INT4:
            below, above = gl.split(gl.permute(gl.reshape(code, [W, ROWS, 2, WIDTH]), (0, 1, 3, 2)))
            code = below | (above << 4)
        LC: gl.constexpr = code.type.layout
        i = gl.set_auto_layout(gl.arange(0, WIDTH)[None, None, :], LC)
        w = gl.convert_layout(writes, gl.SliceLayout(2, LC), assert_trivial=True)
        mask = w[:, :, None] & (i < BYTES)
        gl.store(store_ptr + vector * BYTES + i + code * 0, code.to(gl.uint8), mask=mask)
        if KV == FP8:
            gl.store(params_ptr + vector + scale_16.to(gl.int32) * 0, scale_16, mask=writes)
        else:
            pair = _words_from(scale_16, minimum_16)
            gl.store(params_ptr + vector + pair * 0, pair, mask=writes)


@gluon.jit
def keep_newest(
    inputs,
    to_k,
    to_v,
    areas,
    row,
    heads_row,
    kv_head,
    part,
    axes,
    column,
    query,
    turn,
    eps,
    scale_log2,
    cap_log2,
    HQ: gl.constexpr,
    HK: gl.constexpr,
    PARTS: gl.constexpr,
    D: gl.constexpr,
    DP: gl.constexpr,
    K_KV: gl.constexpr,
    V_KV: gl.constexpr,
    BF16: gl.constexpr,
    HEAD_NORM: gl.constexpr,
    CAPPED: gl.constexpr,
    W: gl.constexpr,
    ROWS: gl.constexpr,
    L: gl.constexpr,
):
    """Writes the newest token's key and value to their pages; its row's first part alone does.

    inputs: qkv, norm weight of keys, slots. to_k, to_v: see _put. areas: shared memory [W, ROWS] for
    scores under `query`, and scale and minimum of the key (warps of even number) or the value.
    axes: warp, row, pair of L; column: K's pair of a head that each stands for, whether there is one.
    """
    qkv_ptr, k_weight_ptr, slots_ptr = inputs
    s_newest, s_scale, s_minimum = areas
    w, r, i = axes
    pair_of_d, real = column
    q_even, q_odd = query
    c, s = turn
    DTYPE: gl.constexpr = gl.bfloat16 if BF16 else gl.float16
    # Warps of even number have the newest token's key, the others its value.
    value = w % 2
    new_pair = pair_of_d
    new_real = real
    if K_KV != V_KV and D != DP:
        d_v, real_v = head_column(i * 2, D, DP, V_KV)
        new_pair = gl.where(value == 0, pair_of_d, d_v // 2)
        new_real = gl.where(value == 0, real, real_v)
    p_new = qkv_ptr + (heads_row + HQ + value * HK + kv_head) * (D // 2) + new_pair
    raw = gl.load(p_new + r * 0, mask=new_real & (w >= 0) & (r >= 0), other=0)
    even, odd = wide_halves(raw, BF16)
    is_key = value == 0
    if HEAD_NORM:
        w_even, w_odd = wide_halves(gl.load(k_weight_ptr + pair_of_d, mask=real, other=0), BF16)
        n_even, n_odd = normed(even, odd, w_even, w_odd, eps, D, DTYPE)
        even = gl.where(is_key, n_even, even)
        odd = gl.where(is_key, n_odd, odd)
    k_c = gl.where(is_key, c, 1.0)
    k_s = gl.where(is_key, s, 0.0)
    even, odd = turned(even, odd, k_c, k_s, DTYPE)
    LR: gl.constexpr = gl.SliceLayout(2, L)
    w2 = gl.set_auto_layout(gl.arange(0, W)[:, None], LR)
    levels = _top_codes(w2 % 2, K_KV, V_KV)
    scale_16, minimum_16 = _page_params(even, odd, new_real, levels, K_KV)
    scale = scale_16.to(gl.float32)
    minimum = minimum_16.to(gl.float32)
    inverse = inverse_of(scale)[:, :, None]
    scale_3, minimum_3, levels = scale[:, :, None], minimum[:, :, None], levels[:, :, None]
    code_even, even = stored(even, scale_3, minimum_3, inverse, levels, K_KV)
    code_odd, odd = stored(odd, scale_3, minimum_3, inverse, levels, K_KV)
    score = gl.sum(gl.where(real, q_even * even + q_odd * odd, 0.0), 2) * scale_log2
    if CAPPED:
        score = soft_cap(score, cap_log2)
    s_newest.store(score)
    s_scale.store(scale)
    s_minimum.store(minimum)
    slot = gl.load(slots_ptr + row)
    if PARTS > 1:
        slot = gl.where(part == 0, slot, -1)
    if slot >= 0:
        if K_KV == DENSE:
            raw = _words_from(even.to(DTYPE), odd.to(DTYPE))
        vector = slot * HK + kv_head
        first_row = gl.set_auto_layout(gl.arange(0, ROWS)[None, :], LR) == 0
        halves = (raw, code_even, code_odd, scale_16, minimum_16)
        _put(to_k, halves, vector, first_row & (w2 == 0), W, ROWS, D, DP, K_KV, L)
        _put(to_v, halves, vector, first_row & (w2 == 1), W, ROWS, D, DP, V_KV, L)
