"""ggml blocks into stored formats: exactly where one fits, else re-encoded with the cost known.

Q4_0, Q4_1 and Q4_K are int4 groups of 32 with scale and offset, MXFP4 is fp8 rows; the rest becomes
int8 rows.
"""

from __future__ import annotations

import torch

from quantchat.checkpoints.ggml.blocks import half, nibbles
from quantchat.checkpoints.ggml.dequantize import PLAIN, dequantize
from quantchat.checkpoints.ggml.superblocks import q4_k_parts
from quantchat.checkpoints.ggml.types import TYPES
from quantchat.quant.pack import pack_nibbles
from quantchat.quant.rounding import fp8_exactly, int8_channel
from quantchat.quant.tensor import (
    DenseWeight,
    Fp8ChannelWeight,
    Int4GroupWeight,
    Int8ChannelWeight,
    StoredWeight,
)

GROUP = 32
INT4_TYPES = ("Q4_0", "Q4_1", "Q4_K")
CHUNK_BLOCKS = 1 << 16
SLICE_ELEMENTS = 1 << 24
"""Of a matrix that is rounded at a time."""
SAMPLE_ELEMENTS = 1 << 18


def stored_from_ggml(
    raw: torch.Tensor, type_name: str, shape: tuple[int, int]
) -> tuple[StoredWeight, float]:
    """The stored format of blocks uint8 [nbytes] of a [N, K] tensor, on the same device.

    Returns the weight and its relative RMS error against the blocks, 0 where these fit exactly.
    Products of Q4_K's two scales are rounded to float16; the rest that is not exact to int8 rows.
    """
    n, k = shape
    if type_name in PLAIN:
        return DenseWeight(dequantize(raw.view(n, -1), type_name)), 0.0
    if type_name in INT4_TYPES:
        weight = _int4(raw, type_name, n, k)
        return weight, _missed(weight, raw.view(n, -1), type_name) if type_name == "Q4_K" else 0.0
    if type_name == "MXFP4":
        floats = _fp8(raw.view(n, -1), type_name)
        if floats is not None:
            return floats, 0.0
    return _int8(raw.view(n, -1), type_name, k)


def _missed(weight: Int4GroupWeight, raw: torch.Tensor, type_name: str) -> float:
    """Relative RMS error, judged by rows here and there: every group is rounded alike."""
    n, k = weight.shape
    rows = torch.arange(0, n, max(1, n * k // SAMPLE_ELEMENTS), device=raw.device)
    dense = dequantize(raw.index_select(0, rows), type_name)
    made = weight.take_rows(rows).dequantize(torch.float32)
    return float((made - dense).norm() / dense.norm().clamp_min(1e-12))


def _fp8(raw: torch.Tensor, type_name: str) -> Fp8ChannelWeight | None:
    """Rows [N, row bytes] in slices as fp8 of the same values; None where they do not fit."""
    parts: list[Fp8ChannelWeight] = []
    k = raw.shape[1] // TYPES[type_name].block_bytes * TYPES[type_name].block_elements
    step = max(1, SLICE_ELEMENTS // k)
    for start in range(0, raw.shape[0], step):
        made = fp8_exactly(dequantize(raw[start : start + step], type_name))
        if made is None:
            return None
        parts.append(made)
    codes = torch.cat([part.codes for part in parts])
    return Fp8ChannelWeight(codes, torch.cat([part.scale for part in parts]))


def _int8(raw: torch.Tensor, type_name: str, k: int) -> tuple[Int8ChannelWeight, float]:
    """Rows [N, row bytes] in slices: no matrix is held in float32 as a whole."""
    n = raw.shape[0]
    codes = torch.empty((n, k), dtype=torch.int8, device=raw.device)
    scale = torch.empty(n, dtype=torch.float32, device=raw.device)
    # On the device, so that a card is not waited for after each slice.
    missed, total = torch.zeros((2,), dtype=torch.float64, device=raw.device)
    step = max(1, SLICE_ELEMENTS // k)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        dense = dequantize(raw[rows], type_name)
        made = int8_channel(dense)
        codes[rows], scale[rows] = made.codes, made.scale
        missed += (made.dequantize(torch.float32) - dense).square().sum()
        total += dense.square().sum()
    return Int8ChannelWeight(codes, scale), float((missed / total.clamp_min(1e-24)).sqrt())


def _int4(raw: torch.Tensor, type_name: str, n: int, k: int) -> Int4GroupWeight:
    block_bytes, block = {"Q4_0": (18, 32), "Q4_1": (20, 32), "Q4_K": (144, 256)}[type_name]
    blocks = raw.view(-1, block_bytes)
    device = raw.device
    packed = torch.empty((blocks.shape[0], block // 2), dtype=torch.uint8, device=device)
    groups = block // GROUP
    scale = torch.empty((blocks.shape[0], groups), dtype=torch.float16, device=device)
    offset = torch.empty_like(scale)
    # In cache-sized pieces on the CPU: one pass over memory rather than six.
    step = CHUNK_BLOCKS if device.type != "cpu" else (1 << 16) // GROUP
    for start in range(0, blocks.shape[0], step):
        part = slice(start, start + step)
        codes, s, o = _parts(blocks[part], type_name)
        packed[part] = pack_nibbles(codes)
        scale[part] = s
        offset[part] = o
    return Int4GroupWeight(
        packed.view(n, k // 2), scale.view(n, k // GROUP), offset.view(n, k // GROUP), GROUP
    )


def _parts(blocks: torch.Tensor, type_name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes uint8 [n, block], scale and offset [n, block / 32]."""
    if type_name == "Q4_K":
        return q4_k_parts(blocks)
    d = half(blocks, 0)
    if type_name == "Q4_0":
        return nibbles(blocks[:, 2:]), d, d * -8
    return nibbles(blocks[:, 4:]), d, half(blocks, 2)
