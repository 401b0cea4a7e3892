"""Block scales of codebooks as lanes need them: those of rows r and r + 8, fp32.

Nested scales are eight bits that index one table; a scale and an offset for each 256 of them,
counted row by row of the matrix, make numbers of them. Both tables stay in the first-level cache;
codes are loaded two items ahead and looked up one item ahead.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from .fetch import blocks_of
from .table_codes import shared_by_four


@gluon.jit
def halves(pair, LV: gl.constexpr):
    """Both of [UG, W, 8, lanes, 2], [UG, W, 8, lanes, 1] each."""
    first, second = gl.split(pair)
    first = gl.convert_layout(gl.expand_dims(first, 4), LV, assert_trivial=True)
    return first, gl.convert_layout(gl.expand_dims(second, 4), LV, assert_trivial=True)


@gluon.jit
def _tile_and_step(item, tiles, STEPS: gl.constexpr):
    """Where an item is; beyond the last: in the last tile."""
    tile = gl.program_id(0) + item // STEPS * gl.num_programs(0)
    return gl.minimum(tile, tiles - 1), item % STEPS


@gluon.jit
def load_codes(
    s_ptr,
    item,
    tiles,
    STEPS: gl.constexpr,
    KB: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    LV: gl.constexpr,
):
    """Codes of an item's scales, a byte each, int32 [UG, W, 8, 1, 1]: unit 0's r and r + 8, unit 1's."""
    tile, step = _tile_and_step(item, tiles, STEPS)
    r = gl.arange(0, 8)[None, None, :, None, None]
    block = gl.minimum(blocks_of(step, W, UG), KB - 1)
    pointers = s_ptr + tile.to(gl.int64) * (KB * 8) + (block * 8 + r)
    return gl.load(gl.set_auto_layout(pointers, LV))


@gluon.jit
def next_scales(
    word,
    item,
    pointers,
    outputs,
    tiles,
    K: gl.constexpr,
    STEPS: gl.constexpr,
    KB: gl.constexpr,
    GATED: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    LV: gl.constexpr,
):
    """What the codes of an item stand for, fp32, their (scale, offset) as int64, the next codes.

    [UG, W, 8, 4, 1] each: lane c has the c-th of a row's four. `pointers`: codes, table, pairs.
    """
    UNITS: gl.constexpr = K // 64
    tile, step = _tile_and_step(item, tiles, STEPS)
    c = gl.arange(0, 4)[None, None, None, :, None]
    r = gl.arange(0, 8)[None, None, :, None, None]
    half = c % 2
    unit = gl.minimum(blocks_of(step, W, UG) * 2 + c // 2, UNITS - 1)
    if GATED:
        row = gl.minimum(tile * 8 + r, outputs - 1) + half * outputs
    else:
        row = gl.minimum(tile * 16 + r + half * 8, outputs - 1)
    code = (word >> gl.set_auto_layout(c * 8, LV)) & 255
    value = gl.load(pointers[1] + code)
    pair = gl.load(gl.set_auto_layout(pointers[2] + ((row * UNITS + unit) >> 8), LV))
    return value, pair, load_codes(pointers[0], item + 1, tiles, STEPS, KB, W, UG, LV)


@gluon.jit
def nested_scales(value, pair):
    """fp32 [UG, W, 8, 4, 1] of unit 0's rows r and r + 8, then of unit 1's."""
    scale = pair.to(gl.int32).to(gl.float32, bitcast=True)
    offset = (pair >> 32).to(gl.int32).to(gl.float32, bitcast=True)
    return shared_by_four(value * scale + offset)
