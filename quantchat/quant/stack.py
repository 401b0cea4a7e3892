"""Weights of one format on top of one another along N, as fused linears hold them."""

from __future__ import annotations

import torch

from quantchat.quant.codebook import NESTED_BLOCK, BlockScales, CodebookWeight, NestedScales
from quantchat.quant.lut import LutWeight, SparseRows
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.tensor import (
    DenseWeight,
    Fp8ChannelWeight,
    Int4GroupWeight,
    Int8ChannelWeight,
    StoredWeight,
)


def concat_rows(weights: list[StoredWeight]) -> StoredWeight | None:
    """Stack weights of one format along N, or None where their formats differ."""
    first = weights[0]
    if isinstance(first, DenseWeight):
        dense = [w.data for w in weights if isinstance(w, DenseWeight)]
        return DenseWeight(torch.cat(dense)) if len(dense) == len(weights) else None
    if isinstance(first, Int8ChannelWeight):
        return _int8([w for w in weights if isinstance(w, Int8ChannelWeight)], len(weights))
    if isinstance(first, Fp8ChannelWeight):
        return _fp8([w for w in weights if isinstance(w, Fp8ChannelWeight)], len(weights))
    if isinstance(first, Int4GroupWeight):
        return _int4([w for w in weights if isinstance(w, Int4GroupWeight)], len(weights))
    if isinstance(first, CodebookWeight):
        return _codebook([w for w in weights if isinstance(w, CodebookWeight)], len(weights))
    if isinstance(first, LutWeight):
        return _lut([w for w in weights if isinstance(w, LutWeight)], len(weights))
    return _progressive([w for w in weights if isinstance(w, ProgressiveWeight)], len(weights))


def _int8(parts: list[Int8ChannelWeight], count: int) -> Int8ChannelWeight | None:
    inputs = [w.input_scale for w in parts]
    if len(parts) != count or not _same(inputs):
        return None
    codes, scale = torch.cat([w.codes for w in parts]), torch.cat([w.scale for w in parts])
    return Int8ChannelWeight(codes, scale, inputs[0])


def _fp8(parts: list[Fp8ChannelWeight], count: int) -> Fp8ChannelWeight | None:
    inputs = [w.input_scale for w in parts]
    if len(parts) != count or not _same(inputs):
        return None
    codes, scale = torch.cat([w.codes for w in parts]), torch.cat([w.scale for w in parts])
    return Fp8ChannelWeight(codes, scale, inputs[0])


def _int4(parts: list[Int4GroupWeight], count: int) -> Int4GroupWeight | None:
    if len(parts) != count or len({w.group_size for w in parts}) > 1:
        return None
    if not _same([w.order for w in parts]):
        return None
    return Int4GroupWeight(
        torch.cat([w.packed for w in parts]),
        torch.cat([w.scale for w in parts]),
        torch.cat([w.offset for w in parts]),
        parts[0].group_size,
        parts[0].order,
    )


def _codebook(parts: list[CodebookWeight], count: int) -> CodebookWeight | None:
    if len(parts) != count or len({w.block_size for w in parts}) > 1:
        return None
    if not _same([w.table for w in parts]):
        return None
    scales = _block_scales([w.scales for w in parts])
    packed = torch.cat([w.packed for w in parts])
    return CodebookWeight(packed, parts[0].table, scales, parts[0].block_size)


def _block_scales(parts: list[BlockScales]) -> BlockScales:
    """Scales of scales are resolved where only some have them, or where blocks of 256 would run from
    one part into the next.
    """
    nested = [part for part in parts if isinstance(part, NestedScales)]
    whole = len(nested) == len(parts) and _same([part.table for part in nested])
    if not whole or any(part.codes.numel() % NESTED_BLOCK for part in nested[:-1]):
        return torch.cat([p.dequantize() if isinstance(p, NestedScales) else p for p in parts])
    return NestedScales(
        torch.cat([part.codes for part in nested]),
        nested[0].table,
        torch.cat([part.scale for part in nested]),
        torch.cat([part.offset for part in nested]),
    )


def _lut(parts: list[LutWeight], count: int) -> LutWeight | None:
    if len(parts) != count or len({w.bits for w in parts}) > 1:
        return None
    sparse = [w.sparse for w in parts if w.sparse is not None]
    if sparse and len(sparse) != count:
        return None
    return LutWeight(
        torch.cat([w.packed for w in parts]),
        torch.cat([w.table for w in parts]),
        parts[0].bits,
        _sparse(sparse) if sparse else None,
    )


def _sparse(parts: list[SparseRows]) -> SparseRows:
    starts, before = [parts[0].starts[:1]], 0
    for part in parts:
        starts.append(part.starts[1:] + before)
        before += len(part.columns)
    return SparseRows(
        torch.cat(starts),
        torch.cat([part.columns for part in parts]),
        torch.cat([part.values for part in parts]),
    )


def _progressive(parts: list[ProgressiveWeight], count: int) -> ProgressiveWeight | None:
    if len(parts) != count or len({w.group_size for w in parts}) > 1:
        return None
    return ProgressiveWeight(
        torch.cat([w.packed for w in parts]),
        torch.cat([w.scale for w in parts]),
        torch.cat([w.group_scale for w in parts]),
        torch.cat([w.group_zero for w in parts]),
        parts[0].group_size,
    )


def _same(tensors: list[torch.Tensor] | list[torch.Tensor | None]) -> bool:
    """Whether all are missing or hold the same numbers."""
    first = tensors[0]
    if first is None:
        return all(tensor is None for tensor in tensors)
    return all(tensor is not None and torch.equal(first, tensor) for tensor in tensors)
