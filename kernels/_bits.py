"""16-bit activations read as 32-bit pairs, and codes as floats by magic exponents; the same arithmetic on every card and interpreted."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def pair_low(pair, BF16: tl.constexpr):
    """The lower half of a 16-bit pair in fp32."""
    if BF16:
        return (pair << 16).to(tl.float32, bitcast=True)
    return pair.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def pair_high(pair, BF16: tl.constexpr):
    """The upper half of a 16-bit pair in fp32."""
    if BF16:
        return (pair & -65536).to(tl.float32, bitcast=True)
    return (pair >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def field_as_float(word, MASK: tl.constexpr, MAGIC: tl.constexpr, USE_ASM: tl.constexpr):
    """The masked bits of a word as mantissa under the sign and exponent of MAGIC, in fp32.

    One LOP3; without inline asm ptxas makes two of it, for a second immediate.
    """
    if USE_ASM:
        field = tl.inline_asm_elementwise(
            "lop3.b32 $0, $1, $2, $3, 0xea;",
            "=r,r,r,r",
            [word, tl.full([1], MASK, tl.int32), tl.full([1], MAGIC, tl.int32)],
            tl.int32,
            True,
            1,
        )
    else:
        field = (word & MASK) | MAGIC
    return field.to(tl.float32, bitcast=True)
