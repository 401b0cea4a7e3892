"""Many rows of 8-bit codes times 8-bit weights on tensor cores, scaled in the same launch.

Both sides lie along K, as the tensor cores want them. Programs next to each other take the row
tiles of the same weights, so that these come from memory once and the codes stay in the cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import ceil_div, launch, sm_count, sm_version
from .parted import LastingWeight, parted_matmul
from .tiles import Parted, Tile, product_tile
from .walk import walked_matmul

LOWEST_SM = 80
"""First card whose tl.dot multiplies int8 on tensor cores."""


@triton.jit
def scaled_matmul_kernel(
    x_ptr,
    w_ptr,
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
    EVEN_K: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    tiles_m = tl.cdiv(M, BM)
    tiles_n = tl.cdiv(N, BN)
    pid = tl.program_id(0)
    group = pid // (GROUP * tiles_n)
    first_m = group * GROUP
    height = tl.minimum(tiles_m - first_m, GROUP)
    within = pid % (GROUP * tiles_n)
    m = (first_m + within % height) * BM + tl.arange(0, BM)
    n = (within // height) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    # Rows beyond the end repeat others and are not stored: loads need no mask along M and N.
    p_x = x_ptr + (m % M).to(tl.int64)[:, None] * K + k[None, :]
    p_w = w_ptr + (n % N).to(tl.int64)[None, :] * K + k[:, None]
    total = tl.zeros([BM, BN], tl.int32 if x_ptr.dtype.element_ty == tl.int8 else tl.float32)
    for start in range(0, K, BK):
        if EVEN_K:
            x = tl.load(p_x)
            w = tl.load(p_w)
        else:
            x = tl.load(p_x, mask=k[None, :] < K - start, other=0.0)
            w = tl.load(p_w, mask=k[:, None] < K - start, other=0.0)
        total = tl.dot(x, w, total, out_dtype=total.dtype)
        p_x += BK
        p_w += BK
    y = total.to(tl.float32)
    y *= tl.load(row_scale_ptr + m, mask=m < M, other=0.0)[:, None]
    y *= tl.load(column_scale_ptr + n, mask=n < N, other=0.0)[None, :]
    if HAS_BIAS:
        y += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(tl.float32)[None, :]
    p_y = y_ptr + m.to(tl.int64)[:, None] * N + n[None, :]
    tl.store(p_y, y.to(y_ptr.dtype.element_ty), mask=(m < M)[:, None] & (n < N)[None, :])


def scaled_matmul(
    codes: torch.Tensor,
    row_scale: torch.Tensor,
    weight: torch.Tensor,
    column_scale: torch.Tensor,
    *,
    dtype: torch.dtype,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
    tile: Tile | Parted | None = None,
    lasting: LastingWeight | None = None,
) -> torch.Tensor:
    """codes [M, K] times weight [N, K], both int8 or both float8_e4m3fn -> [M, N] in dtype.

    Scales fp32 [M] and [N]; bias [N]; K a multiple of 16. SM 80 and up for int8, 89 for fp8.
    `lasting`: of that weight, where it, its scale and the bias are not written any more.
    """
    rows, depth = codes.shape
    columns = weight.shape[0]
    assert codes.dtype == weight.dtype and weight.shape[1] == depth and depth % 16 == 0
    assert codes.is_contiguous() and weight.is_contiguous()
    assert row_scale.shape == (rows,) and row_scale.is_contiguous()
    assert column_scale.shape == (columns,) and column_scale.is_contiguous()
    assert bias is None or (bias.shape == (columns,) and bias.is_contiguous())
    if out is None:
        out = torch.empty(rows, columns, dtype=dtype, device=codes.device)
    assert tuple(out.shape) == (rows, columns) and out.dtype == dtype and out.is_contiguous()
    if tile is None:
        card = codes.device
        tile = product_tile(rows, columns, depth, sm_version(card), sm_count(card))
    if isinstance(tile, Parted):
        parted_matmul(
            codes,
            row_scale,
            weight,
            column_scale,
            out,
            bias=bias,
            tile=tile,
            lasting=lasting,
        )
        return out
    if tile.walkers:
        walked_matmul(codes, row_scale, weight, column_scale, out, bias=bias, tile=tile)
        return out
    tiles = ceil_div(rows, tile.rows) * ceil_div(columns, tile.columns)
    launch(
        scaled_matmul_kernel,
        (tiles, 1, 1),
        codes,
        weight,
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
        EVEN_K=depth % tile.depth == 0,
        HAS_BIAS=bias is not None,
        warps=tile.warps,
        stages=tile.stages,
    )
    return out
