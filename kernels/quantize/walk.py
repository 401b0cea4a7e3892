"""The product of 8-bit codes with 8-bit weights on cards that copy whole tiles by themselves (SM 90).

A few programs a multiprocessor walk over tiles, so that the next tile's first copies run while the
last one's results are stored. Shapes and scales are those of matmul.py.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import Boxed, ceil_div, launch, sm_count
from .tiles import Tile


@triton.jit
def walked_matmul_kernel(
    x_desc,
    w_desc,
    row_scale_ptr,
    column_scale_ptr,
    bias_ptr,
    y_ptr,
    M,
    N,
    K,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
    PROGRAMS: tl.constexpr,
    INT8: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    tiles_m = tl.cdiv(M, BM)
    tiles_n = tl.cdiv(N, BN)
    steps = tl.cdiv(K, BK)
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, PROGRAMS, flatten=True):
        group = tile // (GROUP * tiles_n)
        first_m = group * GROUP
        height = tl.minimum(tiles_m - first_m, GROUP)
        within = tile % (GROUP * tiles_n)
        row = (first_m + within % height) * BM
        column = (within // height) * BN
        total = tl.zeros([BM, BN], tl.int32 if INT8 else tl.float32)
        for step in range(steps):
            x = x_desc.load([row, step * BK])
            w = w_desc.load([column, step * BK])
            total = tl.dot(x, w.T, total, out_dtype=total.dtype)
        m = row + tl.arange(0, BM)
        n = column + tl.arange(0, BN)
        y = total.to(tl.float32)
        y *= tl.load(row_scale_ptr + m, mask=m < M, other=0.0)[:, None]
        y *= tl.load(column_scale_ptr + n, mask=n < N, other=0.0)[None, :]
        if HAS_BIAS:
            y += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(tl.float32)[None, :]
        p_y = y_ptr + m.to(tl.int64)[:, None] * N + n[None, :]
        tl.store(p_y, y.to(y_ptr.dtype.element_ty), mask=(m < M)[:, None] & (n < N)[None, :])


def walked_matmul(
    codes: torch.Tensor,
    row_scale: torch.Tensor,
    weight: torch.Tensor,
    column_scale: torch.Tensor,
    out: torch.Tensor,
    *,
    bias: torch.Tensor | None,
    tile: Tile,
) -> None:
    """See matmul.scaled_matmul; arguments are checked there."""
    rows, depth = codes.shape
    columns = weight.shape[0]
    tiles = ceil_div(rows, tile.rows) * ceil_div(columns, tile.columns)
    programs = sm_count(codes.device) * tile.walkers
    launch(
        walked_matmul_kernel,
        (min(tiles, programs), 1, 1),
        Boxed(codes, (tile.rows, tile.depth)),
        Boxed(weight, (tile.columns, tile.depth)),
        row_scale,
        column_scale,
        bias,
        out,
        rows,
        columns,
        depth,
        BM=tile.rows,
        BN=tile.columns,
        BK=tile.depth,
        GROUP=tile.group,
        PROGRAMS=programs,
        INT8=codes.dtype == torch.int8,
        HAS_BIAS=bias is not None,
        warps=tile.warps,
        stages=tile.stages,
    )
