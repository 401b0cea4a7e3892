"""Activations in the order of the weights' fragments, their sums over blocks, and their norm.

Sums exist for int4 alone, whose codes have an offset: y = scale * sum(x q) + offset * sum(x).
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from .._gluon import REINTERPRET_IS_PUBLIC, pair_high, pair_low
from .codes import (
    CODEBOOK4,
    DENSE,
    INT4,
    INT4_BOTTOM_MAGIC_FP16,
    INT4_MAGIC_BF16,
    INT4_TOP_MAGIC_FP16,
    unit_sum,
)
from .fetch import blocks_of


@gluon.jit
def _load_x(
    x_ptr,
    step,
    part: gl.constexpr,
    first_row,
    rows,
    K: gl.constexpr,
    CODE: gl.constexpr,
    PB: gl.constexpr,
    ONE: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    LV: gl.constexpr,
    MASKED: gl.constexpr,
):
    """Pairs of activations int32 [UG, W, 8 tokens, 4, 4] in the order of the weights' fragments."""
    n = gl.arange(0, 8)[None, None, :, None, None]
    c = gl.arange(0, 4)[None, None, None, :, None]
    i = gl.arange(0, 4)[None, None, None, None, :]
    block = blocks_of(step, W, UG)
    if CODE == INT4 or CODE >= CODEBOOK4:
        k = block * (PB * 32) + part * 16 + c * 4 + i
    elif CODE == DENSE:
        k = block * 16 + c * 4 + i
    else:
        k = block * 32 + c * 8 + part * 4 + i
    offset = k + n * 0
    if not ONE:
        offset += gl.minimum(first_row + n, rows - 1) * (K // 2)
    pointers = gl.set_auto_layout(x_ptr + offset, LV)
    if MASKED:
        mask = gl.set_auto_layout((k < K // 2) & (n >= 0), LV)
        x = gl.load(pointers, mask=mask, other=0)
    else:
        x = gl.load(pointers)
    return x


@gluon.jit
def load_fragments(
    x_ptr,
    step,
    first_row,
    rows,
    K: gl.constexpr,
    CODE: gl.constexpr,
    PB: gl.constexpr,
    CHUNKS: gl.constexpr,
    ONE: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    LV: gl.constexpr,
    MASKED: gl.constexpr,
):
    """The CHUNKS fragments of x that a step's blocks meet, as four; the first stands for absent ones."""
    xa = _load_x(x_ptr, step, 0, first_row, rows, K, CODE, PB, ONE, W, UG, LV, MASKED)
    xb = xa
    xc = xa
    xd = xa
    if CHUNKS >= 2:
        xb = _load_x(x_ptr, step, 1, first_row, rows, K, CODE, PB, ONE, W, UG, LV, MASKED)
    if CHUNKS == 4:
        xc = _load_x(x_ptr, step, 2, first_row, rows, K, CODE, PB, ONE, W, UG, LV, MASKED)
        xd = _load_x(x_ptr, step, 3, first_row, rows, K, CODE, PB, ONE, W, UG, LV, MASKED)
    return xa, xb, xc, xd


@gluon.jit
def load_plane(table_ptr, plane: gl.constexpr, LV: gl.constexpr):
    """Low (0) or high (1) bytes of the table of all rows, int32 [1, 1, 8, 1, 4]."""
    r = gl.arange(0, 8)[None, None, :, None, None]
    i = gl.arange(0, 4)[None, None, None, None, :]
    return gl.load(gl.set_auto_layout(table_ptr + (plane * 32 + r * 4 + i), LV))


@gluon.jit
def sum_row(
    sums,
    x_ptr,
    part: gl.constexpr,
    K: gl.constexpr,
    BLOCK: gl.constexpr,
    SUB: gl.constexpr,
    STEPS_2: gl.constexpr,
    BF16: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
):
    """Leaves one token's sums over every block of k, or half of it, in shared memory [blocks, 8]."""
    SPAN: gl.constexpr = BLOCK // SUB
    LANES: gl.constexpr = SPAN // 8
    N: gl.constexpr = STEPS_2 * UG * W
    LX: gl.constexpr = gl.BlockedLayout([1, 1, 4], [32 // LANES, 1, LANES], [W, 1, 1], [2, 1, 0])
    PLAIN: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [1, 0])
    block = gl.arange(0, N)[:, None, None]
    i = gl.arange(0, SPAN // 2)[None, None, :]
    k = block * (BLOCK // 2) + part * (SPAN // 2) + i
    mask = gl.set_auto_layout(k < K // 2, LX)
    pair = gl.load(gl.set_auto_layout(x_ptr + k, LX), mask=mask, other=0)
    total = gl.sum(pair_low(pair, BF16) + pair_high(pair, BF16), 2)
    # All eight columns are this token.
    total = total + gl.zeros([N, 8], gl.float32, gl.SliceLayout(2, LX))
    if REINTERPRET_IS_PUBLIC:
        table = sums.reinterpret(gl.float32, [N, 8], PLAIN)
    else:
        table = sums._reinterpret(gl.float32, [N, 8], PLAIN)
    table.store(total)


@gluon.jit
def sum_fragments(zero, xa, xb, xc, xd, PB: gl.constexpr, SUB: gl.constexpr, BF16: gl.constexpr):
    """Sums of x over a block's k, or over either half, from its fragments [UG, W, 8, 4, 4]."""
    first = unit_sum(xa, zero, BF16)
    second = unit_sum(xb, zero, BF16)
    if PB == 2:
        first += unit_sum(xc, zero, BF16)
        second += unit_sum(xd, zero, BF16)
    if SUB == 1:
        first += second
    return first, second


@gluon.jit
def scaled(
    acc, sums, x_sums, pair, W: gl.constexpr, UG: gl.constexpr, LC: gl.constexpr, BF16: gl.constexpr
):
    """acc plus scale times the sums of codes plus offset times those of x; pair [UG, W, 8, 1, 2]."""
    pair = gl.convert_layout(gl.reshape(pair, [UG, W, 8, 1, 2, 1]), LC, assert_trivial=True)
    scale = pair_low(pair, False)
    offset = pair_high(pair, False)
    if BF16:
        offset -= INT4_MAGIC_BF16 * scale
    else:
        half = gl.set_auto_layout(gl.arange(0, 2)[None, None, None, None, :, None], LC)
        offset -= gl.where(half == 0, INT4_TOP_MAGIC_FP16, INT4_BOTTOM_MAGIC_FP16) * scale
    sums = gl.convert_layout(gl.reshape(sums, [UG, W, 8, 4, 2, 2]), LC, assert_trivial=True)
    return acc + sums * scale + x_sums * offset


@gluon.jit
def inverse_rms(partial_ptr, rows, first, eps, K: gl.constexpr, MB: gl.constexpr, W: gl.constexpr):
    """1 / root mean square of each token from its partial sums of squares fp32 [rows, K / 16]."""
    PARTS: gl.constexpr = (K + 15) // 16
    NEXT: gl.constexpr = 1 << (PARTS - 1).bit_length()
    LP: gl.constexpr = gl.BlockedLayout([1, 4], [1, 32], [W, 1], [1, 0])
    m = gl.arange(0, MB)[:, None]
    i = gl.arange(0, NEXT)[None, :]
    pointers = gl.set_auto_layout(partial_ptr + (first + m) * PARTS + i, LP)
    mask = gl.set_auto_layout((first + m < rows) & (i < PARTS), LP)
    squares = gl.sum(gl.load(pointers, mask=mask, other=0.0), 1)
    return 1.0 / gl.sqrt(squares / K + eps)
