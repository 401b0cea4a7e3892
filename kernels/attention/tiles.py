"""Tiles of cached vectors on the plain path: read as they are stored, unpacked to fp32."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_pages(table_ptr, t, capacity, PAGE: tl.constexpr):
    """Page of each token t [T], wherever the table has a place for it."""
    return tl.load(table_ptr + t // PAGE, mask=t < capacity, other=0).to(tl.int64)


@triton.jit
def load_tile(cache_ptr, vector, m_t, D: tl.constexpr, DP: tl.constexpr, KV: tl.constexpr):
    """Raw vectors [T, elements]; nothing is read, and 0 stands, where m_t is false."""
    WIDTH: tl.constexpr = D // 2 if KV == "int4" else D
    PADDED: tl.constexpr = DP // 2 if KV == "int4" else DP
    i = tl.arange(0, PADDED)
    mask = m_t[:, None] & (i < WIDTH)[None, :]
    return tl.load(cache_ptr + vector[:, None] * WIDTH + i[None, :], mask=mask, other=0)


@triton.jit
def load_params(params_ptr, vector, m_t, KV: tl.constexpr):
    """Scale and minimum [T] in fp32; 0 where m_t is false and where the format has none."""
    if KV == "16bit":
        scale = tl.zeros_like(vector).to(tl.float32)
        minimum = scale
    elif KV == "fp8":
        scale = tl.load(params_ptr + vector, mask=m_t, other=0.0).to(tl.float32)
        minimum = tl.zeros_like(scale)
    else:
        scale = tl.load(params_ptr + vector * 2, mask=m_t, other=0.0).to(tl.float32)
        minimum = tl.load(params_ptr + vector * 2 + 1, mask=m_t, other=0.0).to(tl.float32)
    return scale, minimum


@triton.jit
def unpack_tile(raw, T: tl.constexpr, DP: tl.constexpr, KV: tl.constexpr):
    """Raw vectors as fp32 values (16bit, fp8) or codes: [T, DP]."""
    if KV == "int4":
        both = tl.join(raw & 15, raw >> 4)
        tile = tl.reshape(tl.permute(both, (0, 2, 1)), (T, DP)).to(tl.float32)
    elif KV == "fp8":
        # Exponent and mantissa one place down are a half 2**8 too small.
        wide = raw.to(tl.int32)
        half = ((wide & 128) << 8) | ((wide & 127) << 7)
        tile = half.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32) * 256.0
    else:
        tile = raw.to(tl.float32)
    return tile
