"""16-bit activations read as 32-bit pairs; the same arithmetic on every card and interpreted."""

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
