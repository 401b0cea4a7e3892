"""Codes of quantized folders into stored formats: exactly where one fits, else int8 rows.

The codes are the file's own wherever the format is; what had to be rounded is said in words, with
its cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from quantchat.checkpoints.layouts.codes import (
    Codes,
    DoubleScales,
    Fp8Codes,
    GroupCodes,
    Int8Codes,
    LutCodes,
    StepCodes,
    TableCodes,
)
from quantchat.checkpoints.layouts.kinds import BLOCK_UNIT, group_of
from quantchat.quant.codebook import BlockScales, CodebookWeight, NestedScales
from quantchat.quant.lut import LutBits, LutWeight, SparseRows
from quantchat.quant.pack import pack_nibbles, pack_triples
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.rounding import fp8_exactly, int8_channel
from quantchat.quant.tensor import (
    Fp8ChannelWeight,
    Int4GroupWeight,
    Int8ChannelWeight,
    StoredWeight,
)

ROUNDED = "re-encoded as int8 rows"
OFFSETS = "scales and offsets rounded to 16 bits"
SLICE_ELEMENTS = 1 << 22
"""Of a matrix, whose errors are looked at together."""
SAMPLE_ELEMENTS = 1 << 20
"""Of a matrix, where its rounding is judged by a part of the rows."""
TABLES = "tables rounded to 16 bits"


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored weight and what it differs in from the file's values."""

    weight: StoredWeight
    change: str = ""
    """What was rounded, in words; empty where the values are the file's."""
    error: float = 0.0
    """Relative RMS error of that."""


def stored_from_codes(codes: Codes) -> Stored:
    """The stored format of a packed linear, on its device."""
    if isinstance(codes, GroupCodes):
        return _groups(codes)
    if isinstance(codes, Int8Codes):
        # A copy: the file's pages may go.
        return Stored(Int8ChannelWeight(codes.codes.clone(), codes.scale.contiguous()))
    if isinstance(codes, Fp8Codes):
        n, k = codes.codes.shape
        if codes.tile[1] < k:
            return _int8(codes)
        scale = codes.scale[:, 0].repeat_interleave(codes.tile[0])[:n].contiguous()
        return Stored(Fp8ChannelWeight(codes.codes.clone(), scale))
    if isinstance(codes, TableCodes):
        return _table(codes)
    if isinstance(codes, StepCodes):
        group = codes.codes.shape[1] // codes.step.shape[1]
        packed = pack_nibbles(codes.codes)
        return Stored(ProgressiveWeight(packed, codes.scale.float(), codes.step, codes.zero, group))
    return _lut(codes)


def relative_error(weight: StoredWeight, dense: torch.Tensor) -> float:
    """RMS of what a weight misses dense [N, K] by, over the RMS of dense; in slices of rows."""
    missed = total = 0.0
    order = torch.arange(dense.shape[0], device=dense.device)
    step = max(1, SLICE_ELEMENTS // dense.shape[1])
    for start in range(0, dense.shape[0], step):
        rows = slice(start, start + step)
        part = dense[rows].float()
        missed += (
            float((weight.take_rows(order[rows]).dequantize(torch.float32) - part).norm()) ** 2
        )
        total += float(part.norm()) ** 2
    return math.sqrt(missed / max(total, 1e-24))


def _int8(codes: Codes) -> Stored:
    dense = codes.dense()
    weight = int8_channel(dense)
    return Stored(weight, ROUNDED, relative_error(weight, dense))


def _groups(codes: GroupCodes) -> Stored:
    """4-bit groups as they are, wider ones repeated; `-zero * scale` is rounded to float16.

    Inputs whose groups do not lie in a row are put in order, where all groups have as many.
    """
    group = group_of(codes.group_size)
    if codes.bits > 4 or not group:
        return _int8(codes)
    if codes.groups is not None:
        counts = torch.bincount(codes.groups, minlength=codes.scale.shape[1])
        if bool((counts != codes.group_size).any()):
            return _int8(codes)
        order = codes.groups.argsort(stable=True)
        ordered = replace(codes, codes=codes.codes.index_select(1, order), groups=None)
        made = _groups(ordered)
        if not isinstance(made.weight, Int4GroupWeight):
            return _int8(codes)
        return replace(made, weight=replace(made.weight, order=order.to(torch.int32)))
    scale = codes.scale.float()
    offset = codes.offsets()
    pairs = [values.to(torch.float16) for values in (scale, offset)]
    if not all(bool(pair.isfinite().all()) for pair in pairs):
        return _int8(codes)
    exact = torch.equal(pairs[0].float(), scale) and torch.equal(pairs[1].float(), offset)
    times = codes.group_size // group
    wide = [pair.repeat_interleave(times, dim=1).contiguous() for pair in pairs]
    weight = Int4GroupWeight(pack_nibbles(codes.codes.contiguous()), wide[0], wide[1], group)
    if exact:
        return Stored(weight)
    # Every group is rounded alike: rows here and there tell what all of them miss.
    n, k = codes.codes.shape
    rows = torch.arange(0, n, max(1, n * k // SAMPLE_ELEMENTS), device=codes.codes.device)
    some = replace(
        codes,
        codes=codes.codes[rows],
        scale=codes.scale[rows],
        zero=codes.zero[rows],
        offset=None if codes.offset is None else codes.offset[rows],
    )
    return Stored(weight, OFFSETS, relative_error(weight.take_rows(rows), some.dense()))


def _table(codes: TableCodes) -> Stored:
    n, half = codes.packed.shape
    if 2 * half % codes.block:
        return _int8(codes)
    if codes.block % BLOCK_UNIT and _powers_of_two(codes.scales):
        floats = fp8_exactly(codes.dense())
        if floats is not None:
            return Stored(floats)
    blocks = 2 * half // codes.block
    scales: BlockScales
    if isinstance(codes.scales, DoubleScales):
        double = codes.scales
        offset = torch.full_like(double.scale, double.offset)
        nested = double.codes.reshape(n, blocks).clone()
        scales = NestedScales(nested, double.table.clone(), double.scale.clone(), offset)
    else:
        scales = codes.scales.reshape(n, blocks).clone()
    return Stored(CodebookWeight(codes.packed.clone(), codes.table.clone(), scales, codes.block))


def _powers_of_two(scales: torch.Tensor | DoubleScales) -> bool:
    return isinstance(scales, torch.Tensor) and bool((torch.frexp(scales).mantissa == 0.5).all())


def _lut(codes: LutCodes) -> Stored:
    """Tables in ascending order, codes renamed with them."""
    table, order = codes.table.float().sort(dim=1, stable=True)
    names = order.argsort(dim=1).to(torch.uint8)
    renamed = names.gather(1, codes.codes.long())
    bits: LutBits = 3 if codes.bits == 3 else 4
    if renamed.shape[1] % (8 if bits == 3 else 2):
        return _int8(codes)
    packed = pack_triples(renamed) if bits == 3 else pack_nibbles(renamed)
    half = table.to(torch.float16)
    sparse, exact = None, torch.equal(half.float(), table)
    if codes.starts is not None and codes.columns is not None and codes.values is not None:
        kept = codes.values.to(torch.float16)
        exact = exact and torch.equal(kept.float(), codes.values.float())
        sparse = SparseRows(codes.starts.int(), codes.columns.int(), kept)
    weight = LutWeight(packed, half, bits, sparse)
    if exact:
        return Stored(weight)
    return Stored(weight, TABLES, relative_error(weight, codes.dense()))
