"""One head of one token inside a kernel: norm, rotation, and the way into a page and back.

Shared by the append of many tokens and by decode attention, so that both store the same bits.
Rounding is that of reference.py.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def head_columns(D: tl.constexpr, DP: tl.constexpr, HALVES: tl.constexpr):
    """Value that each of DP columns stands for, and whether there is one.

    HALVES pads each half of a head by itself, as the two nibbles of int4 bytes need it.
    """
    column = tl.arange(0, DP)
    if HALVES and D != DP:
        HALF: tl.constexpr = DP // 2
        within = column % HALF
        d = column // HALF * (D // 2) + within
        m_d = within < D // 2
    else:
        d = column
        m_d = column < D
    return d, m_d


@triton.jit
def turn_of(cos_ptr, sin_ptr, position, d, m_d, ROTARY_HALF: tl.constexpr):
    """cos and signed sin [DP] for columns d: x' = x * cos + partner * sin, partner at d ^ 1."""
    m_r = m_d & (d < 2 * ROTARY_HALF)
    at = position.to(tl.int64) * ROTARY_HALF + d // 2
    c = tl.load(cos_ptr + at, mask=m_r, other=1.0)
    s = tl.load(sin_ptr + at, mask=m_r, other=0.0)
    return c, tl.where(d % 2 == 0, -s, s)


@triton.jit
def turned_heads(
    rows_ptr,
    row,
    m_row,
    weight,
    partner_weight,
    c,
    s,
    eps,
    d,
    m_d,
    D: tl.constexpr,
    HEAD_NORM: tl.constexpr,
):
    """Heads [R, DP] at rows_ptr + row * D, normed and turned, in fp32 as rounded to 16 bits."""
    dtype: tl.constexpr = rows_ptr.dtype.element_ty
    m = m_row[:, None] & m_d[None, :]
    at = row[:, None] * D
    x = tl.load(rows_ptr + at + d[None, :], mask=m, other=0.0).to(tl.float32)
    partner = tl.load(rows_ptr + at + (d ^ 1)[None, :], mask=m, other=0.0).to(tl.float32)
    if HEAD_NORM:
        inverse = (1.0 / tl.sqrt(tl.sum(x * x, 1) / D + eps))[:, None]
        x = (x * inverse).to(dtype).to(tl.float32)
        partner = (partner * inverse).to(dtype).to(tl.float32)
        x = (x * weight[None, :]).to(dtype).to(tl.float32)
        partner = (partner * partner_weight[None, :]).to(dtype).to(tl.float32)
    return (x * c[None, :] + partner * s[None, :]).to(dtype).to(tl.float32)


@triton.jit
def _rounded(steps):
    return (steps + 12582912.0) - 12582912.0  # 1.5 * 2**23: half to even


@triton.jit
def _fp8_bits(x):
    """Magnitude bits of e4m3 nearest to 0 <= x <= 448, half to even."""
    # After a product with 2**-120 fp32 has e4m3's exponents, denormals included.
    bits = (x * 7.52316384526264e-37).to(tl.int32, bitcast=True)
    return (bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20


@triton.jit
def store_vector(
    x,
    cache_ptr,
    params_ptr,
    vector,
    d,
    m_d,
    D: tl.constexpr,
    DP: tl.constexpr,
    KV: tl.constexpr,
):
    """Puts fp32 x [DP] at a vector of the pages, unless that is negative; returns it as readers see it."""
    write = vector >= 0
    m_w = m_d & (vector + 0 * d >= 0)
    if KV == "16bit":
        tl.store(cache_ptr + vector * D + d, x.to(cache_ptr.dtype.element_ty), mask=m_w)
        seen = x
    elif KV == "fp8":
        scale_16 = tl.div_rn(tl.max(tl.abs(x), 0), 448.0).to(tl.float16)
        tl.store(params_ptr + vector, scale_16, mask=write)
        scale = scale_16.to(tl.float32)
        step = tl.where(scale == 0.0, 1.0, scale)
        steps = tl.div_rn(tl.abs(x), tl.zeros_like(x) + step)
        bits = _fp8_bits(tl.where(scale == 0.0, 0.0, tl.minimum(steps, 448.0)))
        code = bits | tl.where(x < 0.0, 128, 0)
        tl.store(cache_ptr + vector * D + d, code.to(tl.uint8), mask=m_w)
        magnitude = (bits << 20).to(tl.float32, bitcast=True) * 1.329227995784916e36 * scale
        seen = tl.where(x < 0.0, -magnitude, magnitude)
    else:
        LEVELS: tl.constexpr = 255.0 if KV == "int8" else 15.0
        low = tl.min(tl.where(m_d, x, float("inf")), 0)
        high = tl.max(tl.where(m_d, x, -float("inf")), 0)
        scale_16 = tl.div_rn(high - low, LEVELS).to(tl.float16)
        minimum_16 = low.to(tl.float16)
        tl.store(params_ptr + vector * 2, scale_16, mask=write)
        tl.store(params_ptr + vector * 2 + 1, minimum_16, mask=write)
        scale = scale_16.to(tl.float32)
        minimum = minimum_16.to(tl.float32)
        step = tl.where(scale == 0.0, 1.0, scale)
        steps = tl.div_rn(x - minimum, tl.zeros_like(x) + step)
        steps = _rounded(tl.minimum(tl.maximum(steps, 0.0), LEVELS))
        steps = tl.where(scale == 0.0, 0.0, steps)
        code = steps.to(tl.int32)
        if KV == "int8":
            tl.store(cache_ptr + vector * D + d, code.to(tl.uint8), mask=m_w)
        else:
            below, above = tl.split(tl.trans(tl.reshape(code, (2, DP // 2))))
            j = tl.arange(0, DP // 2)
            pair = (below | (above << 4)).to(tl.uint8)
            tl.store(
                cache_ptr + vector * (D // 2) + j, pair, mask=(j < D // 2) & (vector + 0 * j >= 0)
            )
        seen = tl.where(m_d, steps * scale + minimum, 0.0)
    return seen
