"""Values to 8-bit codes inside a kernel; shared by everything that writes quantised rows.

FORM is 0 for int8 and 1 for fp8 (E4M3FN bits). CAST takes the card's own conversion to fp8, which
is there from SM 89 on; without it the bits are made by integer arithmetic, the same on every card
and interpreted.
"""

from __future__ import annotations

import triton
import triton.language as tl

INT8 = tl.constexpr(0)
FP8 = tl.constexpr(1)
LOWEST_AMAX = tl.constexpr(1e-12)


@triton.jit
def code_limit(FORM: tl.constexpr):
    """The largest code."""
    limit: tl.constexpr = 448.0 if FORM == FP8 else 127.0
    return limit


@triton.jit
def _fp8_bits(values):
    """E4M3FN bits in int32 of fp32 values within 448 either side; nearest, halves to even."""
    bits = values.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    # 20 bits of the mantissa go; 960 is the difference of the exponents' biases, 120, over them.
    normal = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - 960
    # Below 2^-6 steps are 2^-9: added to 2^14, whose last bit is 2^-9, they are what stays.
    subnormal = (tl.abs(values) + 16384.0).to(tl.int32, bitcast=True) - 0x46800000
    small = magnitude < 0x3C800000
    return tl.where(small, subnormal, normal) | ((bits >> 24) & 0x80)


@triton.jit
def encode(values, FORM: tl.constexpr, CAST: tl.constexpr):
    """Codes of fp32 values already divided by their scale: int8, or fp8 bits as uint8."""
    if FORM == FP8:
        values = tl.minimum(tl.maximum(values, -448.0), 448.0)
        if CAST:
            codes = values.to(tl.float8e4nv).to(tl.uint8, bitcast=True)
        else:
            codes = _fp8_bits(values).to(tl.uint8)
    else:
        # 1.5 * 2^23: the sum has no bits behind the point, rounded to even by the addition itself.
        rounded = (values + 12582912.0) - 12582912.0
        codes = tl.minimum(tl.maximum(rounded, -127.0), 127.0).to(tl.int8)
    return codes


@triton.jit
def fp8_values(bits):
    """E4M3FN bits in int32 as fp32, on any card; NaN's bits give 480."""
    half = ((bits & 0x80) << 8) | ((bits & 0x7F) << 7)
    return half.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32) * 256.0
