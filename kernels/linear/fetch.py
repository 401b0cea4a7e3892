"""Weights on their way to shared memory: which addresses a stage copies, one group a stage.

Shapes: UG blocks of a warp, W warps, 8 rows, 4 lanes a row, 4 words a lane.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from .._gluon import copies_end_a_stage, copy_to_shared
from .codes import CODEBOOK4, DENSE, INT4, LUT3, LUT4


@gluon.jit
def blocks_of(step, W: gl.constexpr, UG: gl.constexpr):
    """Block along K of every warp in one step, [UG, W, 1, 1, 1]."""
    ug = gl.arange(0, UG)[:, None, None, None, None]
    warp = gl.arange(0, W)[None, :, None, None, None]
    return step * (W * UG) + ug * W + warp


@gluon.jit
def _fetch_words(
    shared,
    w_ptr,
    tile,
    step,
    part: gl.constexpr,
    outputs,
    K: gl.constexpr,
    CODE: gl.constexpr,
    PB: gl.constexpr,
    KB: gl.constexpr,
    GATED: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    LV: gl.constexpr,
):
    """Starts the copy of int32 [UG, W, 8, 4, 4]: unit `part` of tiles, else rows r or r + 8.

    What lies beyond the matrix is read from its edge: x is zero there.
    """
    r = gl.arange(0, 8)[None, None, :, None, None]
    c = gl.arange(0, 4)[None, None, None, :, None]
    i = gl.arange(0, 4)[None, None, None, None, :]
    block = blocks_of(step, W, UG)
    if CODE == INT4 or CODE >= CODEBOOK4:
        # Low bits of lut3: one word does for two units.
        UNITS: gl.constexpr = 1 if CODE == LUT3 else PB
        block = gl.minimum(block, KB - 1)
        offset = (block * UNITS + part) * 128 + r * 16 + c * 4 + i
        pointers = w_ptr + tile.to(gl.int64) * (KB * UNITS * 128) + offset
    else:
        WORDS: gl.constexpr = K // 2 if CODE == DENSE else K // 4
        if GATED:
            first = tile.to(gl.int64) * 8 + part * outputs
            row = gl.minimum(r, outputs - 1 - tile * 8)
        else:
            first = tile.to(gl.int64) * 16
            row = gl.minimum(r + 8 * part, outputs - 1 - tile * 16)
        chunk = gl.minimum(block * 4 + c, WORDS // 4 - 1)
        pointers = w_ptr + first * WORDS + (row * WORDS + chunk * 4 + i)
    copy_to_shared(shared, gl.set_auto_layout(pointers, LV), eviction_policy="evict_first")


@gluon.jit
def _fetch_beside(
    shared,
    s_ptr,
    tile,
    step,
    part: gl.constexpr,
    KB: gl.constexpr,
    SUB: gl.constexpr,
    LANES: gl.constexpr,
    COUNT: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    LS: gl.constexpr,
):
    """Starts the copy of what a block has besides words, int32 [UG, W, 8, LANES, COUNT].

    COUNT words of a row pair, or of each of its lanes: pairs of fp16 (scale, offset), scales in
    fp32, top bits.
    """
    r = gl.arange(0, 8)[None, None, :, None, None]
    c = gl.arange(0, LANES)[None, None, None, :, None]
    i = gl.arange(0, COUNT)[None, None, None, None, :]
    block = gl.minimum(blocks_of(step, W, UG), KB - 1)
    offset = (block * SUB + part) * (8 * LANES * COUNT) + r * (LANES * COUNT) + c * COUNT + i
    pointers = s_ptr + tile.to(gl.int64) * (KB * SUB * 8 * LANES * COUNT) + offset
    copy_to_shared(shared, gl.set_auto_layout(pointers, LS))


@gluon.jit
def _fetch_tables(
    tables,
    item,
    t_ptr,
    outputs,
    CODE: gl.constexpr,
    STEPS: gl.constexpr,
    GATED: gl.constexpr,
    TABLES: gl.constexpr,
    LT: gl.constexpr,
):
    """With a tile's first step, starts the copy of its rows' tables, int32 [1, 1, 8, parts, 4].

    Beyond the last tile it is that one's again, in a place that nobody reads: a condition of two
    parts around copies does not compile with Triton 3.6.
    """
    PARTS: gl.constexpr = 4 if CODE == LUT4 else 2
    if item % STEPS == 0:
        place = item // STEPS
        last = (outputs - 1) // (8 if GATED else 16)
        tile = gl.minimum(gl.program_id(0) + place * gl.num_programs(0), last)
        r = gl.arange(0, 8)[None, None, :, None, None]
        part = gl.arange(0, PARTS)[None, None, None, :, None]
        i = gl.arange(0, 4)[None, None, None, None, :]
        pointers = t_ptr + tile.to(gl.int64) * (PARTS * 32) + (part * 32 + r * 4 + i)
        copy_to_shared(tables.index(place % TABLES), gl.set_auto_layout(pointers, LT))


@gluon.jit
def fetch_stage(
    rings,
    item,
    slot,
    items,
    sources,
    outputs,
    K: gl.constexpr,
    CODE: gl.constexpr,
    PB: gl.constexpr,
    SUB: gl.constexpr,
    KB: gl.constexpr,
    STEPS: gl.constexpr,
    GATED: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    LV: gl.constexpr,
    LS: gl.constexpr,
    LT: gl.constexpr,
    TABLES: gl.constexpr,
):
    """Starts the copies of one step of one tile, as one group, empty beyond the last.

    A tile's own tables come with its first step; TABLES of them have room at once. rings: shared
    memory of both parts of words, of what is beside them, and of tables; sources: where they are.
    """
    words0, words1, pairs0, pairs1, tables = rings
    w_ptr, s_ptr, t_ptr = sources
    if item < items:
        tile = gl.program_id(0) + item // STEPS * gl.num_programs(0)
        step = item % STEPS
        _fetch_words(
            words0.index(slot), w_ptr, tile, step, 0, outputs, K, CODE, PB, KB, GATED, W, UG, LV
        )
        if (PB == 2 and CODE != LUT3) or (CODE != INT4 and CODE < CODEBOOK4):
            _fetch_words(
                words1.index(slot), w_ptr, tile, step, 1, outputs, K, CODE, PB, KB, GATED, W, UG, LV
            )
        if (CODE == INT4) | (CODE == CODEBOOK4):
            _fetch_beside(pairs0.index(slot), s_ptr, tile, step, 0, KB, SUB, 1, 2, W, UG, LS)
            if SUB == 2:
                _fetch_beside(pairs1.index(slot), s_ptr, tile, step, 1, KB, SUB, 1, 2, W, UG, LS)
        if CODE == LUT3:
            _fetch_beside(pairs0.index(slot), s_ptr, tile, step, 0, KB, 1, 4, 2, W, UG, LS)
    if CODE >= LUT4:
        _fetch_tables(tables, item, t_ptr, outputs, CODE, STEPS, GATED, TABLES, LT)
    copies_end_a_stage()
