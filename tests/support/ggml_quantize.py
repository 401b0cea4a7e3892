"""Floats to ggml blocks, for test files: plain round to nearest, no search.

The gguf package does the types that it can; K-quants and IQ4 are packed here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

IQ4 = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32
)


def quantize(values: np.ndarray, name: str) -> np.ndarray:
    """float32 [..., K] -> what gguf.GGUFWriter takes: uint8 [..., row bytes], or floats as such."""
    import gguf

    kind = gguf.GGMLQuantizationType[name]
    if name not in PACKERS:
        return np.asarray(gguf.quants.quantize(values, kind))
    elements, nbytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = values.reshape(-1, elements).astype(np.float32)
    packed = PACKERS[name](blocks)
    assert packed.dtype == np.uint8 and packed.shape == (len(blocks), nbytes)
    return packed.reshape(*values.shape[:-1], -1)


def _half(values: np.ndarray) -> np.ndarray:
    return values.astype("<f2").reshape(-1, 1).view(np.uint8)


def _ratio(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.divide(values, scale, out=np.zeros_like(values), where=scale != 0)


def _affine(blocks: np.ndarray, width: int, levels: int, steps: int) -> tuple[Any, ...]:
    """Codes, integer scales and minima of sub-blocks, d and dmin; value = d s q - dmin m."""
    parts = blocks.reshape(len(blocks), -1, width)
    lowest = np.minimum(parts.min(-1), 0)
    span = (parts.max(-1).clip(0) - lowest) / levels
    d = (span.max(-1, keepdims=True) / steps).astype(np.float16).astype(np.float32)
    dmin = (-lowest.min(-1, keepdims=True) / steps).astype(np.float16).astype(np.float32)
    scales = _ratio(span, np.broadcast_to(d, span.shape)).round().clip(0, steps).astype(np.uint8)
    minima = _ratio(-lowest, np.broadcast_to(dmin, span.shape)).round().clip(0, steps)
    offset, scale = (dmin * minima)[..., None], (d * scales)[..., None]
    codes = _ratio(parts + offset, np.broadcast_to(scale, parts.shape)).round().clip(0, levels)
    return codes.astype(np.uint8).reshape(len(blocks), -1), scales, minima.astype(np.uint8), d, dmin


def _signed(blocks: np.ndarray, width: int, largest: int, steps: int) -> tuple[Any, ...]:
    """Codes in units of the sub-block's scale, signed scales within `steps`, d; value = d s q."""
    parts = blocks.reshape(len(blocks), -1, width)
    span = np.abs(parts).max(-1) / largest
    d = (span.max(-1, keepdims=True) / steps).astype(np.float16).astype(np.float32)
    scales = _ratio(span, np.broadcast_to(d, span.shape)).round().clip(0, steps)
    codes = _ratio(parts, np.broadcast_to((d * scales)[..., None], parts.shape))
    return codes.reshape(len(blocks), -1), scales.astype(np.int8), d


def _bit_pairs(codes: np.ndarray) -> np.ndarray:
    """Codes 0..3 [n, 256] -> [n, 64]: four planes of 32 in each half."""
    planes = codes.reshape(len(codes), 2, 4, 32)
    packed = planes[:, :, 0] | planes[:, :, 1] << 2 | planes[:, :, 2] << 4 | planes[:, :, 3] << 6
    return packed.reshape(len(codes), 64)


def _nibbles(codes: np.ndarray, width: int) -> np.ndarray:
    """Codes 0..15 [n, w] -> [n, w / 2]: a run of `width` low nibbles, the next run high."""
    runs = codes.reshape(len(codes), -1, 2, width)
    return (runs[:, :, 0] | runs[:, :, 1] << 4).reshape(len(codes), -1)


def _six_bits(scales: np.ndarray, minima: np.ndarray) -> np.ndarray:
    """Eight scales and eight minima of six bits -> twelve bytes."""
    first = (scales[:, :4] & 63) | (scales[:, 4:] >> 4) << 6
    second = (minima[:, :4] & 63) | (minima[:, 4:] >> 4) << 6
    mixed = (scales[:, 4:] & 15) | (minima[:, 4:] & 15) << 4
    return np.concatenate([first, second, mixed], axis=1)


def _q2_k(blocks: np.ndarray) -> np.ndarray:
    codes, scales, minima, d, dmin = _affine(blocks, 16, 3, 15)
    return np.concatenate([scales | minima << 4, _bit_pairs(codes), _half(d), _half(dmin)], axis=1)


def _q3_k(blocks: np.ndarray) -> np.ndarray:
    values, scales, d = _signed(blocks, 16, 4, 31)
    codes = (values.round().clip(-4, 3) + 4).astype(np.uint8)
    high = (codes >> 2).reshape(len(blocks), 8, 32)
    mask = np.zeros((len(blocks), 32), dtype=np.uint8)
    for place in range(8):
        mask |= high[:, place] << place
    stored = (scales.astype(np.int16) + 32).astype(np.uint8)
    low = (stored[:, :8] & 15) | (stored[:, 8:] & 15) << 4
    top = (stored >> 4).reshape(len(blocks), 4, 4)
    tops = top[:, 0] | top[:, 1] << 2 | top[:, 2] << 4 | top[:, 3] << 6
    return np.concatenate([mask, _bit_pairs(codes & 3), low, tops, _half(d)], axis=1)


def _q4_k(blocks: np.ndarray) -> np.ndarray:
    codes, scales, minima, d, dmin = _affine(blocks, 32, 15, 63)
    packed = [_half(d), _half(dmin), _six_bits(scales, minima), _nibbles(codes, 32)]
    return np.concatenate(packed, axis=1)


def _q5_k(blocks: np.ndarray) -> np.ndarray:
    codes, scales, minima, d, dmin = _affine(blocks, 32, 31, 63)
    high = (codes >> 4).reshape(len(blocks), 8, 32)
    fifth = np.zeros((len(blocks), 32), dtype=np.uint8)
    for place in range(8):
        fifth |= high[:, place] << place
    packed = [_half(d), _half(dmin), _six_bits(scales, minima), fifth, _nibbles(codes & 15, 32)]
    return np.concatenate(packed, axis=1)


def _q6_k(blocks: np.ndarray) -> np.ndarray:
    values, scales, d = _signed(blocks, 16, 32, 127)
    codes = (values.round().clip(-32, 31) + 32).astype(np.uint8)
    packed = [_nibbles(codes & 15, 64), _bit_pairs(codes >> 4), scales.view(np.uint8), _half(d)]
    return np.concatenate(packed, axis=1)


def _nearest(values: np.ndarray) -> np.ndarray:
    """Codes of the nearest entries of the IQ4 table."""
    return np.searchsorted((IQ4[1:] + IQ4[:-1]) / 2, values).astype(np.uint8)


def _iq4_nl(blocks: np.ndarray) -> np.ndarray:
    d = (np.abs(blocks).max(-1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
    codes = _nearest(_ratio(blocks, np.broadcast_to(d, blocks.shape)))
    return np.concatenate([_half(d), _nibbles(codes, 16)], axis=1)


def _iq4_xs(blocks: np.ndarray) -> np.ndarray:
    values, scales, d = _signed(blocks, 32, 127, 31)
    stored = (scales.astype(np.int16) + 32).astype(np.uint16)
    high = np.zeros((len(blocks), 1), dtype="<u2")
    for place in range(8):
        high[:, 0] |= (stored[:, place] >> 4) << (2 * place)
    low = ((stored[:, 0::2] & 15) | (stored[:, 1::2] & 15) << 4).astype(np.uint8)
    return np.concatenate([_half(d), high.view(np.uint8), low, _nibbles(_nearest(values), 16)], 1)


PACKERS = {
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
}
