"""What becomes of the sums of warpgroup products: rows of y, or parts that another program adds.

Sums are [PART outputs, BM rows], 16 outputs a warp of eight, as the tensor cores of SM 90 leave them.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

PART = 128
"""Outputs of one product: 16 of each warp."""
OUTPUTS = gl.constexpr(PART)


@gluon.constexpr_function
def _rows_layout(BM):
    more = [[0, 16], [0, 32], [0, 64], [0, 128]][: BM.bit_length() - 5]
    return gl.DistributedLinearLayout(
        [[1, 0], [2, 0], [4, 0], *more],
        [[8, 0], [0, 1], [0, 2], [0, 4], [0, 8]],
        [[16, 0], [32, 0], [64, 0]],
        [],
        [PART, BM],
    )


@gluon.constexpr_function
def lanes_layout(BM):
    more = [[1, 0], [2, 0], [4, 0], [8, 0], [16, 0]][: BM.bit_length() - 4]
    return gl.DistributedLinearLayout(
        [[0, 1], [0, 2], *more],
        [[0, 4], [0, 8], [0, 16], [0, 32], [0, 64]],
        [[0, 128], [0, 256], [0, 512]],
        [],
        [BM // 8, 1024],
    )


@gluon.jit
def by_lanes(total):
    """Sums [PART, BM] as tensor cores leave them, four of a lane together; nothing moves."""
    BM: gl.constexpr = total.shape[1]
    total = gl.permute(gl.reshape(total, [8, 2, 8, BM // 8, 4, 2]), [3, 0, 2, 4, 1, 5])
    return gl.convert_layout(
        gl.reshape(total, [BM // 8, 1024]), lanes_layout(BM), assert_trivial=True
    )


@gluon.jit
def by_rows(total, MMA: gl.constexpr):
    """The reverse."""
    BM: gl.constexpr = total.shape[0] * 8
    total = gl.permute(gl.reshape(total, [BM // 8, 8, 8, 4, 2, 2]), [1, 4, 2, 0, 3, 5])
    return gl.convert_layout(gl.reshape(total, [OUTPUTS, BM]), MMA, assert_trivial=True)


@gluon.jit
def _places(tile, row, outputs, GATED: gl.constexpr):
    """Outputs of the rows of tiles, and their columns in y."""
    if GATED:
        n = (tile + row // 16) * 8 + row % 8
        column = n + row // 8 % 2 * outputs
    else:
        n = tile * 16 + row
        column = n
    return n, column


@gluon.jit
def finish(total, bias_ptr, y_ptr, tile, m, sizes, GATED: gl.constexpr, HAS_BIAS: gl.constexpr):
    """[PART, BM] in fp32 to rows of y, eight outputs a lane."""
    M, eighths, _, _, _ = sizes
    BM: gl.constexpr = total.shape[1]
    ROWS: gl.constexpr = _rows_layout(BM)
    outputs = eighths * 8
    if HAS_BIAS:
        row = gl.arange(0, OUTPUTS, gl.SliceLayout(1, total.type.layout))
        n, column = _places(tile, row, outputs, GATED)
        bias = gl.load(bias_ptr + column, mask=n < outputs, other=0.0)
        total += bias.to(gl.float32)[:, None]
    y = gl.convert_layout(total.to(y_ptr.dtype.element_ty), ROWS)
    row = gl.arange(0, OUTPUTS, gl.SliceLayout(1, ROWS))
    n, column = _places(tile, row, outputs, GATED)
    width = outputs * 2 if GATED else outputs
    m += gl.arange(0, BM, gl.SliceLayout(0, ROWS))
    p_y = y_ptr + m.to(gl.int64)[None, :] * width + column[:, None]
    gl.store(p_y, y, mask=(m < M)[None, :] & (n < outputs)[:, None])
