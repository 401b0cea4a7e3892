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
def turn_of(
    cos_ptr,
    sin_ptr,
    position,
    D: tl.constexpr,
    DP: tl.constexpr,
    ROTARY_HALF: tl.constexpr,
    HALVES: tl.constexpr,
):
    """cos and sin [DP / 2] of the pairs of columns; those that do not turn have 1 and 0."""
    pair = tl.arange(0, DP // 2)
    if HALVES and D != DP:
        QUARTER: tl.constexpr = DP // 4
        i = pair // QUARTER * (D // 4) + pair % QUARTER
        m_r = (pair % QUARTER < D // 4) & (i < ROTARY_HALF)
    else:
        i = pair
        m_r = i < ROTARY_HALF
    at = position.to(tl.int64) * ROTARY_HALF + i
    return (
        tl.load(cos_ptr + at, mask=m_r, other=1.0),
        tl.load(sin_ptr + at, mask=m_r, other=0.0),
    )


@triton.jit
def normed_heads(x, weight, eps, D: tl.constexpr, DTYPE: tl.constexpr):
    """Heads [R, DP], zero in unused columns, over their root mean square, times weight [DP]."""
    inverse = 1.0 / tl.sqrt(tl.sum(x * x, 1) / D + eps)
    x = (x * inverse[:, None]).to(DTYPE).to(tl.float32)
    return (x * weight[None, :]).to(DTYPE).to(tl.float32)


@triton.jit
def turned_heads(x, c, s, R: tl.constexpr, DP: tl.constexpr, DTYPE: tl.constexpr):
    """Heads [R, DP] with their pairs turned by c, s [R or 1, DP / 2]; rounded, in fp32."""
    even, odd = tl.split(tl.reshape(x, (R, DP // 2, 2)))
    turned = tl.join(even * c - odd * s, even * s + odd * c)
    return tl.reshape(turned, (R, DP)).to(DTYPE).to(tl.float32)


@triton.jit
def _butterfly(x, R: tl.constexpr, D: tl.constexpr, HALF: tl.constexpr):
    """Sums and differences of values HALF apart."""
    blocks = tl.reshape(x, (R, D // (2 * HALF), 2, HALF))
    low, high = tl.split(tl.permute(blocks, (0, 1, 3, 2)))
    both = tl.permute(tl.join(low + high, low - high), (0, 1, 3, 2))
    return tl.reshape(both, (R, D))


@triton.jit
def hadamard_heads(x, R: tl.constexpr, D: tl.constexpr, DTYPE: tl.constexpr):
    """Heads [R, D] times the normalised Hadamard matrix of order D <= 1024; rounded, in fp32."""
    for stage in tl.static_range(10):
        if (2 << stage) <= D:
            x = _butterfly(x, R, D, 1 << stage)
    return (x * D**-0.5).to(DTYPE).to(tl.float32)


@triton.jit
def levels_of(rows, KV: tl.constexpr):
    """Highest code of an integer format in fp32, in the shape of rows."""
    return tl.zeros_like(rows).to(tl.float32) + (255.0 if KV == "int8" else 15.0)


@triton.jit
def _rounded(steps):
    return (steps + 12582912.0) - 12582912.0  # 1.5 * 2**23: half to even


@triton.jit
def _inverse(scale):
    """1 / scale, rounded; 0 for the scale 0 of a flat vector."""
    one = tl.zeros_like(scale) + 1.0
    return tl.where(scale == 0.0, 0.0, tl.div_rn(one, tl.where(scale == 0.0, 1.0, scale)))


@triton.jit
def _fp8_bits(x):
    """Magnitude bits of e4m3 nearest to 0 <= x <= 448, half to even."""
    # After a product with 2**-120 fp32 has e4m3's exponents, denormals included.
    bits = (x * 7.52316384526264e-37).to(tl.int32, bitcast=True)
    return (bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20


@triton.jit
def stored_heads(x, m_x, levels, KV: tl.constexpr):
    """What a page keeps of heads [R, DP]: codes (or values), scale and minimum fp16 [R].

    Then the heads as a reader will see them, in fp32. levels [R]: highest code, where there are
    codes; rows of both integer formats may stand together.
    """
    if KV == "16bit":
        code = x
        scale_16 = tl.max(x, 1).to(tl.float16)
        minimum_16 = scale_16
        seen = x
    elif KV == "fp8":
        scale_16 = tl.div_rn(tl.max(tl.abs(x), 1), 448.0).to(tl.float16)
        minimum_16 = scale_16
        scale = scale_16.to(tl.float32)[:, None]
        bits = _fp8_bits(tl.minimum(tl.abs(x) * _inverse(scale), 448.0))
        code = bits | tl.where(x < 0.0, 128, 0)
        magnitude = (bits << 20).to(tl.float32, bitcast=True) * 1.329227995784916e36 * scale
        seen = tl.where(x < 0.0, -magnitude, magnitude)
    else:
        low = tl.min(tl.where(m_x, x, float("inf")), 1)
        high = tl.max(tl.where(m_x, x, -float("inf")), 1)
        scale_16 = tl.div_rn(high - low, tl.zeros_like(low) + levels).to(tl.float16)
        minimum_16 = low.to(tl.float16)
        scale = scale_16.to(tl.float32)[:, None]
        minimum = minimum_16.to(tl.float32)[:, None]
        steps = (x - minimum) * _inverse(scale)
        steps = _rounded(tl.minimum(tl.maximum(steps, 0.0), levels[:, None]))
        code = steps.to(tl.int32)
        seen = tl.where(m_x, steps * scale + minimum, 0.0)
    return code, scale_16, minimum_16, seen


@triton.jit
def put_heads(
    code,
    scale_16,
    minimum_16,
    cache_ptr,
    params_ptr,
    vector,
    m_row,
    d,
    m_d,
    R: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    KV: tl.constexpr,
):
    """Writes those rows of stored_heads that m_row [R] names to a vector of the pages."""
    TYPE: tl.constexpr = cache_ptr.dtype.element_ty
    same = tl.arange(0, R) * 0
    if KV == "int4":
        halves = tl.permute(tl.reshape(code, (R, 2, DP // 2)), (0, 2, 1))
        below, above = tl.split(halves)
        j = tl.arange(0, DP // 2)
        p_cache = cache_ptr + (vector * (D // 2) + j)[None, :] + same[:, None]
        m_cache = m_row[:, None] & (j < D // 2)[None, :]
        tl.store(p_cache, (below | (above << 4)).to(TYPE), mask=m_cache)
    else:
        p_cache = cache_ptr + (vector * D + d)[None, :] + same[:, None]
        tl.store(p_cache, code.to(TYPE), mask=m_row[:, None] & m_d[None, :])
    if KV != "16bit":
        PARAMS: tl.constexpr = 1 if KV == "fp8" else 2
        p_params = params_ptr + vector * PARAMS + same
        tl.store(p_params, scale_16, mask=m_row)
        if KV != "fp8":
            tl.store(p_params + 1, minimum_16, mask=m_row)
