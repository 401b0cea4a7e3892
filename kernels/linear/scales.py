"""Block scales of codebooks as lanes need them: those of rows r and r + 8, fp32.

Nested scales are eight bits that index one table; a scale and an offset for each 256 of them,
counted row by row of the matrix, make numbers of them. Both tables stay in the first-level cache.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from .fetch import blocks_of
from .table_codes import shared_by_four


@gluon.jit
def plain_scales(pair):
    """fp32 of rows r and r + 8, [UG, W, 8, 1, 1] each, from their bits int32 [UG, W, 8, 1, 2]."""
    top, bottom = gl.split(pair.to(gl.float32, bitcast=True))
    return gl.expand_dims(top, 4), gl.expand_dims(bottom, 4)


@gluon.jit
def nested_scales(
    word,
    values_ptr,
    pairs_ptr,
    tile,
    step,
    outputs,
    K: gl.constexpr,
    GATED: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    LV: gl.constexpr,
):
    """fp32 [UG, W, 8, 4, 1] of unit 0's rows r and r + 8, then of unit 1's.

    word int32 [UG, W, 8, 1, 1]: a byte for each of the four; lane c looks the c-th one up.
    pairs_ptr sees scale and offset as one int64.
    """
    UNITS: gl.constexpr = K // 64
    c = gl.arange(0, 4)[None, None, None, :, None]
    r = gl.arange(0, 8)[None, None, :, None, None]
    half = c % 2
    unit = gl.minimum(blocks_of(step, W, UG) * 2 + c // 2, UNITS - 1)
    if GATED:
        row = gl.minimum(tile * 8 + r, outputs - 1) + half * outputs
    else:
        row = gl.minimum(tile * 16 + r + half * 8, outputs - 1)
    lane = gl.set_auto_layout(c * 8, LV)
    code = (word >> lane) & 255
    value = gl.load(values_ptr + code)
    pair = gl.load(gl.set_auto_layout(pairs_ptr + ((row * UNITS + unit) >> 8), LV))
    scale = pair.to(gl.int32).to(gl.float32, bitcast=True)
    offset = (pair >> 32).to(gl.int32).to(gl.float32, bitcast=True)
    return shared_by_four(value * scale + offset)
