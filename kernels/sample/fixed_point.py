"""The arithmetic of reference.py inside kernels: the same bits, whatever the order of sums.

Kernels that use it must be compiled without contraction to FMA.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .reference import (
    DRAW_BITS,
    EXP2_COEFFICIENTS,
    INVERSE_RANGE,
    LOG2_E,
    LOWEST_EXPONENT,
    WEIGHT_BITS,
)

_C0 = tl.constexpr(EXP2_COEFFICIENTS[0])
_C1 = tl.constexpr(EXP2_COEFFICIENTS[1])
_C2 = tl.constexpr(EXP2_COEFFICIENTS[2])
_C3 = tl.constexpr(EXP2_COEFFICIENTS[3])
_C4 = tl.constexpr(EXP2_COEFFICIENTS[4])
_C5 = tl.constexpr(EXP2_COEFFICIENTS[5])
_LOG2_E = tl.constexpr(LOG2_E)
_LOWEST = tl.constexpr(LOWEST_EXPONENT)
_INVERSE_LOW = tl.constexpr(INVERSE_RANGE[0])
_INVERSE_HIGH = tl.constexpr(INVERSE_RANGE[1])
_SHIFT = tl.constexpr(WEIGHT_BITS - 23)
_WEIGHT_ONE = tl.constexpr(float(1 << WEIGHT_BITS))
_DRAW_BITS = tl.constexpr(DRAW_BITS)
_DRAW_ONE = tl.constexpr(float(1 << DRAW_BITS))
_DRAW_MASK = tl.constexpr((1 << DRAW_BITS) - 1)


@triton.jit
def inverse_temperature(temperature):
    """fp32 -> its bounded reciprocal; 1 where it is 0 or less."""
    safe = tl.where(temperature > 0.0, temperature, 1.0)
    inverse = tl.div_rn(tl.zeros_like(safe) + 1.0, safe)
    return tl.minimum(tl.maximum(inverse, _INVERSE_LOW), _INVERSE_HIGH)


@triton.jit
def weight_of(logit, top, inverse):
    """int64 weights of fp32 logits."""
    exponent = tl.maximum(((logit - top) * inverse) * _LOG2_E, _LOWEST)
    whole = tl.floor(exponent)
    part = exponent - whole
    value = part * _C5 + _C4
    value = value * part + _C3
    value = value * part + _C2
    value = value * part + _C1
    value = value * part + _C0
    mantissa = (value * 8388608.0).to(tl.int32).to(tl.int64)
    return (mantissa << _SHIFT) >> (0.0 - whole).to(tl.int32).to(tl.int64)


@triton.jit
def share(total, numerator):
    """floor(total * numerator / 2^24) of int64."""
    return (total >> _DRAW_BITS) * numerator + (((total & _DRAW_MASK) * numerator) >> _DRAW_BITS)


@triton.jit
def top_p_limit(total, top_p):
    """Tokens before which less weight than this lies are kept."""
    part = tl.minimum(tl.maximum(top_p, 0.0), 1.0) * _DRAW_ONE
    return tl.maximum(share(total, part.to(tl.int64)), 1)


@triton.jit
def min_p_weight(min_p):
    """The least weight kept."""
    return (tl.minimum(tl.maximum(min_p, 0.0), 1.0) * _WEIGHT_ONE).to(tl.int64)


@triton.jit
def draw_bits(seed, index):
    """24 bits of splitmix64 from int64 seed and counter."""
    x = seed.to(tl.uint64) * 0x9E3779B97F4A7C15 + (index + 1).to(tl.uint64) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return ((x ^ (x >> 31)) >> 40).to(tl.int64)


@triton.jit
def key_16(raw):
    """uint32 in the order of fp16 or bf16 numbers; both zeros are one."""
    bits = raw.to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
    bits = tl.where(bits == 0x8000, 0, bits)
    return tl.where(bits >= 0x8000, bits ^ 0xFFFF, bits | 0x8000).to(tl.uint32)


@triton.jit
def key_32(x):
    """uint32 in the order of fp32 numbers; both zeros are one."""
    bits = tl.where(x == 0.0, 0.0, x).to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return ordered.to(tl.uint32, bitcast=True) ^ 0x80000000


@triton.jit
def penalized(x, seen, penalty):
    """Repetition penalty on fp32 logits whose token is seen."""
    lowered = tl.where(x > 0.0, tl.div_rn(x, tl.zeros_like(x) + penalty), x * penalty)
    return tl.where(seen != 0, lowered, x)
