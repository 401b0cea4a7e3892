"""ggml blocks to floats, on any device.

Owns the walk over rows and chunks. The arithmetic of each type is in `blocks` and `superblocks`.
Results equal ggml's bit for bit: products and sums are rounded one at a time, never fused.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TypeAlias

import torch

from quantchat.checkpoints.ggml import blocks, superblocks
from quantchat.checkpoints.ggml.types import TYPES
from quantchat.cores import each

Decoder: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""uint8 [n, block bytes] -> float32 [n, block elements]."""

PLAIN: MappingProxyType[str, torch.dtype] = MappingProxyType(
    {
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F64": torch.float64,
        "I8": torch.int8,
        "I16": torch.int16,
        "I32": torch.int32,
        "I64": torch.int64,
    }
)

DECODERS: MappingProxyType[str, Decoder] = MappingProxyType(
    {
        "Q4_0": blocks.q4_0,
        "Q4_1": blocks.q4_1,
        "Q5_0": blocks.q5_0,
        "Q5_1": blocks.q5_1,
        "Q8_0": blocks.q8_0,
        "IQ4_NL": blocks.iq4_nl,
        "MXFP4": blocks.mxfp4,
        "Q2_K": superblocks.q2_k,
        "Q3_K": superblocks.q3_k,
        "Q4_K": superblocks.q4_k,
        "Q5_K": superblocks.q5_k,
        "Q6_K": superblocks.q6_k,
        "IQ4_XS": superblocks.iq4_xs,
    }
)

CHUNK_ELEMENTS = MappingProxyType({"cpu": 1 << 17, "cuda": 1 << 25})
"""Elements decoded at once: on the CPU what stays in the second-level cache."""


def dequantize(
    raw: torch.Tensor, type_name: str, *, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Values of stored rows: uint8 [..., row bytes] -> `dtype` [..., K], on the same device.

    Decoded in float32, then cast. Never a view of `raw`.
    """
    kind = TYPES[type_name]
    assert raw.dtype == torch.uint8 and raw.shape[-1] % kind.block_bytes == 0
    lead = raw.shape[:-1]
    columns = raw.shape[-1] // kind.block_bytes * kind.block_elements
    if type_name in PLAIN:
        aligned = raw.contiguous()
        if aligned.storage_offset() % kind.block_bytes:
            aligned = aligned.clone()
        return aligned.view(PLAIN[type_name]).to(dtype=dtype, copy=True)
    decode = DECODERS[type_name]
    rows = raw.reshape(-1, kind.block_bytes)
    out = torch.empty((rows.shape[0], kind.block_elements), dtype=dtype, device=raw.device)
    step = max(1, CHUNK_ELEMENTS.get(raw.device.type, 1 << 25) // kind.block_elements)

    def fill(start: int) -> None:
        out[start : start + step] = decode(rows[start : start + step])

    starts = range(0, rows.shape[0], step)
    if raw.device.type == "cpu":
        each(fill, starts)
    else:
        for start in starts:
            fill(start)
    return out.reshape(*lead, columns)
