"""int4 tiles to dense weights in natural order, for products of many rows.

16-bit weights for the library's product, or the int8 codes of two-level weights for ours.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import check_out, launch
from .pack import Int4Tiles

_UNITS = 4


@triton.jit
def linear_dequantize_kernel(
    w_ptr,
    s_ptr,
    channel_ptr,
    y_ptr,
    outputs,
    K: tl.constexpr,
    GROUP: tl.constexpr,
    GATED: tl.constexpr,
    CHANNEL: tl.constexpr,
    UNITS: tl.constexpr,
):
    """w_ptr as int32, s_ptr as int32 pairs of fp16; `outputs` counts rows of one half where GATED."""
    BLOCK: tl.constexpr = 128 if GROUP == 128 else 64
    KU: tl.constexpr = (K + BLOCK - 1) // BLOCK * (BLOCK // 64)
    GROUPS: tl.constexpr = KU * 64 // GROUP
    tile = tl.program_id(0)
    row = tl.arange(0, 16)[:, None]  # rows 0 to 7 of the tile, then 8 to 15
    k = tl.program_id(1) * (UNITS * 64) + tl.arange(0, UNITS * 64)[None, :]
    half = row // 8
    r = row % 8
    e = k % 8
    unit = k // 64
    word = (r * 4 + k // 8 % 4) * 4 + k // 32 % 2 * 2 + e // 4
    shift = 4 * (half + e // 2 % 2 * 2 + e % 2 * 4)
    inside = (k < K) & (row >= 0)
    p_w = w_ptr + tile.to(tl.int64) * (KU * 128) + (unit * 128 + word)
    code = (tl.load(p_w, mask=inside, other=0) >> shift) & 15
    p_s = s_ptr + tile.to(tl.int64) * (GROUPS * 16) + (k // GROUP * 16 + r * 2 + half)
    pair = tl.load(p_s, mask=inside, other=0)
    scale = pair.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    offset = (pair >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    y = code.to(tl.float32) * scale + offset
    if GATED:
        n = tile * 8 + r
        out = (n + half * outputs).to(tl.int64)
    else:
        n = tile * 16 + row
        out = n.to(tl.int64)
    if CHANNEL:
        y *= tl.load(channel_ptr + out, mask=n < outputs, other=0.0)
    tl.store(y_ptr + out * K + k, y.to(y_ptr.dtype.element_ty), mask=inside & (n < outputs))


def _launch(weight: Int4Tiles, channel: torch.Tensor | None, out: torch.Tensor) -> torch.Tensor:
    tiles, units = weight.words.shape[:2]
    launch(
        linear_dequantize_kernel,
        (tiles, triton.cdiv(units, _UNITS), 1),
        weight.words,
        weight.pairs.view(torch.int32),
        channel,
        out,
        weight.rows // 2 if weight.gated else weight.rows,
        K=weight.columns,
        GROUP=weight.group_size,
        GATED=weight.gated,
        CHANNEL=channel is not None,
        UNITS=_UNITS,
        warps=4,
    )
    return out


def dequantize(
    weight: Int4Tiles, dtype: torch.dtype, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Dense weights [N, K] in `dtype`."""
    shape = (weight.rows, weight.columns)
    if out is None:
        out = torch.empty(shape, dtype=dtype, device=weight.words.device)
    check_out(out, shape, dtype)
    return _launch(weight, weight.channel, out)


def expand(weight: Int4Tiles, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """Codes int8 [N, K] of two-level weights: what `channel` multiplies."""
    assert weight.channel is not None
    shape = (weight.rows, weight.columns)
    if out is None:
        out = torch.empty(shape, dtype=torch.int8, device=weight.words.device)
    check_out(out, shape, torch.int8)
    return _launch(weight, None, out)
