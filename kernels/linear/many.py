"""More rows than a decode step has times int4 tiles or int8 rows, made dense in registers.

Between the few rows that gemv.py takes and the many for which the library's product on dense
weights is faster; int4 on SM 90 is wide.py's. Owns these products alone; the order of the codes is
pack.py's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .._launch import PLAIN_SM, ceil_div, check_activation, check_out, launch, sm_version
from .launch import RowWeight
from .pack import TILE_ROWS, UNIT_COLUMNS, Int4Tiles

WIDE_SMS = (80, 90, 100)
"""Cards whose programs have more than 99 KiB of shared memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyTile:
    """What a program computes, and how."""

    outputs: int
    rows: int
    depth: int
    warps: int = 4
    stages: int = 4


INT4_TILE = ManyTile(outputs=64, rows=128, depth=UNIT_COLUMNS)
INT8_LOW = ManyTile(outputs=64, rows=64, depth=128)
INT8_TILE = ManyTile(outputs=64, rows=128, depth=128, stages=3)
INT8_SMALL = ManyTile(outputs=64, rows=128, depth=64)


def int8_tile(rows: int, sm: int) -> ManyTile:
    """The tile of int8 weights for so many rows on a card of that SM version.

    On an H100 the linears of Llama-3.1-8B take 5.9 ms over 64 rows with INT8_LOW, 7.5 over 128 with
    INT8_TILE; the library takes 13 for either, weights made dense first.
    """
    if sm not in WIDE_SMS:
        return INT8_SMALL
    return INT8_LOW if rows <= INT8_LOW.rows else INT8_TILE


@triton.jit(do_not_specialize=["M"])
def many_int4_kernel(
    x_ptr,
    w_ptr,
    s_ptr,
    bias_ptr,
    y_ptr,
    M,
    outputs,
    tiles,
    K,
    GROUP: tl.constexpr,
    GATED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    EVEN_K: tl.constexpr,
    INTERPRETED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """w_ptr as int32, s_ptr as int32 pairs of fp16; `outputs` counts rows of one half where GATED.

    INTERPRETED: products in fp32, since the interpreter takes bf16 for integers.
    """
    BLOCK: tl.constexpr = 128 if GROUP == 128 else 64
    TN: tl.constexpr = BN // 16
    PARTS: tl.constexpr = 64 // GROUP if GROUP < 64 else 1
    units = (K + BLOCK - 1) // BLOCK * (BLOCK // 64)
    tiles_m = tl.cdiv(M, BM)
    tile = (tl.program_id(0) // tiles_m) * TN
    m = (tl.program_id(0) % tiles_m) * BM + tl.arange(0, BM)
    # Rows and tiles beyond the end repeat others and are not stored: loads need no mask there.
    lane_row = tl.arange(0, TN * 8)
    word = tl.arange(0, 16)
    word_tile = tl.minimum(tile + lane_row // 8, tiles - 1).to(tl.int64)
    p_w = w_ptr + (word_tile * units * 128 + lane_row % 8 * 16)[:, None] + word[None, :]
    row = tl.arange(0, BN)
    half = row // 8 % 2
    pair_tile = tl.minimum(tile + row // 16, tiles - 1).to(tl.int64)
    first_pair = pair_tile * (units * 64 // GROUP) * 16 + row % 8 * 2 + half
    p_s = s_ptr + first_pair[:, None] + (tl.arange(0, PARTS) * 16)[None, :]
    k = tl.arange(0, 64)
    p_x = x_ptr + (m % M).to(tl.int64)[None, :] * K + k[:, None]
    nibble = 4 * tl.arange(0, 8)
    total = tl.zeros([BN, BM], tl.float32)
    for unit in range(0, units):
        if EVEN_K:
            x = tl.load(p_x + unit * 64)
        else:
            x = tl.load(p_x + unit * 64, mask=k[:, None] < K - unit * 64, other=0.0)
        w = tl.load(p_w + unit * 128)
        pair = tl.load(p_s + unit * 64 // GROUP * 16)
        scale = pair.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
        offset = (pair >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
        code = (w[:, :, None] >> nibble[None, None, :]) & 15
        # [tile, r, c, 32-block, step, element, pair, half] to rows of the tile and their k
        code = tl.reshape(code, [TN, 8, 4, 2, 2, 2, 2, 2])
        code = tl.permute(code, [0, 7, 1, 3, 2, 4, 6, 5])
        code = tl.reshape(code, [BN, PARTS, 64 // PARTS])
        dense = code.to(tl.float32) * scale[:, :, None] + offset[:, :, None]
        dense = tl.reshape(dense.to(x_ptr.dtype.element_ty), [BN, 64])
        if INTERPRETED:
            total = tl.dot(dense.to(tl.float32), x.to(tl.float32), total)
        else:
            total = tl.dot(dense, x, total)
    if GATED:
        n = (tile + row // 16) * 8 + row % 8
        out = n + half * outputs
        width = outputs * 2
    else:
        n = tile * 16 + row
        out = n
        width = outputs
    if HAS_BIAS:
        total += tl.load(bias_ptr + out, mask=n < outputs, other=0.0).to(tl.float32)[:, None]
    p_y = y_ptr + m.to(tl.int64)[None, :] * width + out[:, None]
    inside = (m < M)[None, :] & (n < outputs)[:, None]
    tl.store(p_y, total.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["M"])
def many_int8_kernel(
    x_ptr,
    w_ptr,
    scale_ptr,
    bias_ptr,
    y_ptr,
    M,
    N,
    K,
    HAS_BIAS: tl.constexpr,
    EVEN_K: tl.constexpr,
    INTERPRETED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    tiles_m = tl.cdiv(M, BM)
    n = (tl.program_id(0) // tiles_m) * BN + tl.arange(0, BN)
    m = (tl.program_id(0) % tiles_m) * BM + tl.arange(0, BM)
    k = tl.arange(0, BK)
    p_x = x_ptr + (m % M).to(tl.int64)[None, :] * K + k[:, None]
    p_w = w_ptr + (n % N).to(tl.int64)[:, None] * K + k[None, :]
    total = tl.zeros([BN, BM], tl.float32)
    for start in range(0, K, BK):
        if EVEN_K:
            x = tl.load(p_x + start)
            w = tl.load(p_w + start)
        else:
            x = tl.load(p_x + start, mask=k[:, None] < K - start, other=0.0)
            w = tl.load(p_w + start, mask=k[None, :] < K - start, other=0)
        if INTERPRETED:
            total = tl.dot(w.to(tl.float32), x.to(tl.float32), total)
        else:
            total = tl.dot(w.to(x_ptr.dtype.element_ty), x, total)
    total *= tl.load(scale_ptr + n, mask=n < N, other=0.0)[:, None]
    if HAS_BIAS:
        total += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(tl.float32)[:, None]
    p_y = y_ptr + m.to(tl.int64)[None, :] * N + n[:, None]
    tl.store(p_y, total.to(y_ptr.dtype.element_ty), mask=(m < M)[None, :] & (n < N)[:, None])


def linear_many(
    x: torch.Tensor,
    weight: Int4Tiles | RowWeight,
    *,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """x fp16 or bf16 [M, K] times a weight [N, K] of int4 tiles or int8 rows -> [M, N] of x's dtype.

    bias [N]. Gated weights leave gate before up. Weights are rounded to x's dtype, as dequantize
    rounds them; two-level weights are not taken.
    """
    check_activation(x)
    rows = x.shape[0]
    shape = (rows, weight.rows)
    assert x.shape[1] == weight.columns, f"{tuple(x.shape)} times {weight.columns} columns"
    assert bias is None or (bias.shape == (weight.rows,) and bias.is_contiguous())
    if out is None:
        out = torch.empty(shape, dtype=x.dtype, device=x.device)
    check_out(out, shape, x.dtype)
    if isinstance(weight, Int4Tiles):
        assert weight.channel is None, "two-level weights are expanded"
        _int4(x, weight, bias, out)
    else:
        _int8(x, weight, bias, out)
    return out


def _int4(x: torch.Tensor, weight: Int4Tiles, bias: torch.Tensor | None, out: torch.Tensor) -> None:
    tile, tiles = INT4_TILE, weight.words.shape[0]
    programs = ceil_div(tiles, tile.outputs // TILE_ROWS) * ceil_div(x.shape[0], tile.rows)
    launch(
        many_int4_kernel,
        (programs, 1, 1),
        x,
        weight.words,
        weight.pairs.view(torch.int32),
        bias,
        out,
        x.shape[0],
        weight.rows // 2 if weight.gated else weight.rows,
        tiles,
        weight.columns,
        GROUP=weight.group_size,
        GATED=weight.gated,
        HAS_BIAS=bias is not None,
        EVEN_K=weight.words.shape[1] * UNIT_COLUMNS == weight.columns,
        INTERPRETED=sm_version(x.device) == PLAIN_SM,
        BM=tile.rows,
        BN=tile.outputs,
        warps=tile.warps,
        stages=tile.stages,
    )


def _int8(x: torch.Tensor, weight: RowWeight, bias: torch.Tensor | None, out: torch.Tensor) -> None:
    assert weight.codes.dtype == torch.int8 and weight.scale is not None
    assert weight.codes.is_contiguous() and weight.scale.is_contiguous()
    tile = int8_tile(x.shape[0], sm_version(x.device))
    programs = ceil_div(weight.rows, tile.outputs) * ceil_div(x.shape[0], tile.rows)
    launch(
        many_int8_kernel,
        (programs, 1, 1),
        x,
        weight.codes,
        weight.scale,
        bias,
        out,
        x.shape[0],
        weight.rows,
        weight.columns,
        HAS_BIAS=bias is not None,
        EVEN_K=weight.columns % tile.depth == 0,
        INTERPRETED=sm_version(x.device) == PLAIN_SM,
        BM=tile.rows,
        BN=tile.outputs,
        BK=tile.depth,
        warps=tile.warps,
        stages=tile.stages,
    )
