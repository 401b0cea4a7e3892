"""Tiles of codes that index tables to dense 16-bit weights in natural order, for many rows."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import check_out, launch
from .table_pack import TableTiles

_UNITS = 4
SCALES = {"codebook4": 1, "nested4": 2, "lut4": 0, "lut3": 0}
"""Block scales in fp32, in 8 bits, none."""


@triton.jit
def table_dequantize_kernel(
    w_ptr,
    top_ptr,
    planes_ptr,
    s_ptr,
    values_ptr,
    pairs_ptr,
    y_ptr,
    outputs,
    K: tl.constexpr,
    BITS: tl.constexpr,
    SCALES: tl.constexpr,
    GATED: tl.constexpr,
    BF16: tl.constexpr,
    UNITS: tl.constexpr,
):
    """w_ptr and top_ptr as int32, planes_ptr as bytes, s_ptr fp32 (SCALES 1) or bytes (2).

    `outputs` counts rows of one half where GATED.
    """
    PACKED: tl.constexpr = 2 if SCALES == 2 or BITS == 3 else 1
    BLOCKS: tl.constexpr = (K + 64 * PACKED - 1) // (64 * PACKED)
    KU: tl.constexpr = K // 64
    HIGH: tl.constexpr = 128 if BITS == 4 else 8  # bytes behind low ones
    tile = tl.program_id(0).to(tl.int64)
    row = tl.arange(0, 16)[:, None, None]  # rows 0 to 7 of the tile, then 8 to 15
    unit = tl.program_id(1) * UNITS + tl.arange(0, UNITS)[None, :, None]
    k = tl.arange(0, 64)[None, None, :]
    half = row // 8
    r = row % 8
    lane = r * 4 + k // 8 % 4
    step = k // 32 * 2 + k % 8 // 4  # which four words of a lane, were they of four bits
    nibble = 4 * (half * 4 + k % 4)
    if GATED:
        n = tile * 8 + r
        out = n + half * outputs
    else:
        n = tile * 16 + row
        out = n
    m_unit = (n < outputs) & (unit < KU)
    inside = m_unit & (k >= 0)
    if BITS == 4:
        p_w = w_ptr + tile * (BLOCKS * PACKED * 128) + (unit * 128 + lane * 4 + step)
        code = (tl.load(p_w, mask=inside, other=0) >> nibble) & 15
    else:
        block = unit // 2
        p_w = w_ptr + tile * (BLOCKS * 128) + (block * 128 + lane * 4 + unit % 2 * 2 + step // 2)
        p_top = top_ptr + tile * (BLOCKS * 64) + (block * 64 + lane * 2 + unit % 2)
        low = tl.load(p_w, mask=inside, other=0) >> (nibble + step % 2 * 2)
        top = tl.load(p_top, mask=inside, other=0) >> (nibble + step)
        code = (low & 3) + (top & 1) * 4
    if SCALES > 0:
        p_low = planes_ptr + code
    elif BITS == 4:
        p_low = planes_ptr + tile * 512 + (half * 256 + r * 16 + code)
    else:
        p_low = planes_ptr + tile * 256 + (half * 128 + r * 16 + code)
    bits = tl.load(p_low, mask=inside, other=0).to(tl.int32)
    bits |= tl.load(p_low + HIGH, mask=inside, other=0).to(tl.int32) << 8
    if BF16:
        y = (bits << 16).to(tl.float32, bitcast=True)
    else:
        y = bits.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    if SCALES == 1:
        p_s = s_ptr + tile * (KU * 16) + (unit * 16 + r * 2 + half)
        y *= tl.load(p_s, mask=m_unit, other=0.0)
    if SCALES == 2:
        p_s = s_ptr + tile * (BLOCKS * 32) + (unit // 2 * 32 + r * 4 + unit % 2 * 2 + half)
        value = tl.load(values_ptr + tl.load(p_s, mask=m_unit, other=0).to(tl.int32))
        p_pair = pairs_ptr + ((out * KU + unit) >> 8) * 2
        scale = tl.load(p_pair, mask=m_unit, other=0.0)
        y *= value * scale + tl.load(p_pair + 1, mask=m_unit, other=0.0)
    p_y = y_ptr + out * K + (unit * 64 + k)
    tl.store(p_y, y.to(y_ptr.dtype.element_ty), mask=inside)


def dequantize_table(
    weight: TableTiles, dtype: torch.dtype, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Dense weights [N, K] in `dtype`."""
    shape = (weight.rows, weight.columns)
    if out is None:
        out = torch.empty(shape, dtype=dtype, device=weight.words.device)
    check_out(out, shape, dtype)
    nested = weight.nested
    launch(
        table_dequantize_kernel,
        (weight.words.shape[0], triton.cdiv(weight.columns, _UNITS * 64), 1),
        weight.words,
        weight.top,
        weight.planes.view(torch.uint8),
        weight.scales,
        None if nested is None else nested.values,
        None if nested is None else nested.pairs,
        out,
        weight.rows // 2 if weight.gated else weight.rows,
        K=weight.columns,
        BITS=3 if weight.code == "lut3" else 4,
        SCALES=SCALES[weight.code],
        GATED=weight.gated,
        BF16=weight.dtype == torch.bfloat16,
        UNITS=_UNITS,
        warps=4,
    )
    return out
