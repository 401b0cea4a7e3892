"""Weights in the order of the tensor-core linears: from stored formats, to the disk and back.

Owns which stored format becomes which form and whether a file's tensors are that form; what runs
them is linear_tiles's.
"""

from __future__ import annotations

import torch

from quantchat.kernels.linear import table_pack
from quantchat.kernels.linear.launch import RowWeight, Weight
from quantchat.kernels.linear.pack import (
    GROUP_SIZES,
    UNIT_COLUMNS,
    Int4Tiles,
    kernel_group,
    pack,
    tile_count,
)
from quantchat.kernels.linear.table_pack import BLOCK_UNITS, NestedTable, TableCode, TableTiles
from quantchat.ops.linear import LinearForm, tensor_of
from quantchat.quant.codebook import CodebookWeight, NestedScales
from quantchat.quant.lut import LutWeight, SparseRows
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.tensor import (
    DenseWeight,
    Fp8ChannelWeight,
    Int4GroupWeight,
    Int8ChannelWeight,
    StoredWeight,
)

ROW_COLUMNS = 16
"""8-bit rows are read this many columns at a time."""
DENSE_COLUMNS = 8
INT8_ROWS = "int8-rows-1"
FP8_ROWS = "fp8-rows-1"
_VERSION = 1
_TABLE_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_TABLE_CODES: tuple[TableCode, ...] = ("codebook4", "nested4", "lut4", "lut3")


def kernel_weight(weight: StoredWeight, *, dtype: torch.dtype, gated: bool) -> Weight | None:
    """A stored weight for the kernel, sparse entries apart; None for shapes that it does not take.

    Values of tables are rounded to `dtype`, that of the activations.
    """
    columns = weight.shape[1]
    if isinstance(weight, Int4GroupWeight):
        if weight.group_size not in GROUP_SIZES:
            return None
        tiles: Int4Tiles = pack(
            weight.codes(), weight.scale, weight.offset, weight.group_size, gated=gated
        )
        return tiles
    if isinstance(weight, ProgressiveWeight):
        return _progressive(weight, gated)
    if isinstance(weight, CodebookWeight):
        return _codebook(weight, dtype, gated)
    if isinstance(weight, LutWeight):
        if columns % UNIT_COLUMNS:
            return None
        made: TableTiles = table_pack.pack_lut(
            weight.codes(), weight.table, dtype=dtype, gated=gated
        )
        return made
    if isinstance(weight, (Int8ChannelWeight, Fp8ChannelWeight)):
        if columns % ROW_COLUMNS:
            return None
        return RowWeight(codes=weight.codes.contiguous(), scale=weight.scale.contiguous())
    assert isinstance(weight, DenseWeight)
    if columns % DENSE_COLUMNS:
        return None
    return RowWeight(codes=weight.dequantize(dtype).contiguous(), scale=None)


def _progressive(weight: ProgressiveWeight, gated: bool) -> Int4Tiles | None:
    """Groups wider than the kernel's are repeated; pairs are small integers."""
    group = kernel_group(weight.group_size)
    if group is None:
        return None
    times = weight.group_size // group
    scale = weight.group_scale.to(torch.int16)
    offset = -(weight.group_zero.to(torch.int16) * scale)
    pairs = [part.repeat_interleave(times, dim=1).to(torch.float16) for part in (scale, offset)]
    tiles: Int4Tiles = pack(
        weight.codes(), *pairs, group, gated=gated, channel=weight.scale.float().contiguous()
    )
    return tiles


def _codebook(weight: CodebookWeight, dtype: torch.dtype, gated: bool) -> TableTiles | None:
    """Blocks of several units have their scale repeated, in fp32."""
    times, rest = divmod(weight.block_size, UNIT_COLUMNS)
    if rest or weight.shape[1] % UNIT_COLUMNS:
        return None
    codes, scales = weight.codes(), weight.scales
    tiles: TableTiles
    if times == 1 and isinstance(scales, NestedScales):
        nested = NestedTable(
            values=scales.table.float(),
            pairs=torch.stack((scales.scale, scales.offset), dim=1).float(),
        )
        tiles = table_pack.pack_nested(
            codes, weight.table, scales.codes, nested, dtype=dtype, gated=gated
        )
        return tiles
    wide = weight.block_scales().repeat_interleave(times, dim=1)
    tiles = table_pack.pack_codebook(codes, weight.table, wide, dtype=dtype, gated=gated)
    return tiles


def packed_weight(weight: Weight) -> tuple[str, int, dict[str, torch.Tensor]] | None:
    """Form, group size and tensors for the disk; None for what is as it is in the model's file."""
    if isinstance(weight, RowWeight):
        if weight.scale is None:
            return None
        form = INT8_ROWS if weight.codes.dtype == torch.int8 else FP8_ROWS
        return form, 0, {"codes": weight.codes, "scale": weight.scale}
    if isinstance(weight, Int4Tiles):
        tensors = {"words": weight.words, "pairs": weight.pairs}
        if weight.channel is None:
            return _tiles_name("int4", weight.gated), weight.group_size, tensors
        name = _tiles_name("progressive4", weight.gated)
        return name, weight.group_size, tensors | {"channel": weight.channel}
    kind = next(kind for kind, dtype in _TABLE_DTYPES.items() if dtype == weight.dtype)
    tensors = {"words": weight.words, "planes": weight.planes}
    if weight.top is not None:
        tensors["top"] = weight.top
    if weight.scales is not None:
        tensors["scales"] = weight.scales
    if weight.nested is not None:
        tensors |= {"nested_values": weight.nested.values, "nested_pairs": weight.nested.pairs}
    return _tiles_name(f"{weight.code}-{kind}", weight.gated), 0, tensors


def _tiles_name(code: str, gated: bool) -> str:
    return f"{code}-gated-tiles-{_VERSION}" if gated else f"{code}-tiles-{_VERSION}"


def restored_weight(form: LinearForm, *, dtype: torch.dtype, gated: bool) -> Weight:
    """What `packed_weight` was asked of; ValueError where the form is unknown or does not fit."""
    if form.form in (INT8_ROWS, FP8_ROWS):
        return _restored_rows(form)
    if form.form == _tiles_name("int4", gated):
        return _restored_int4(form, gated=gated, channel=False)
    if form.form == _tiles_name("progressive4", gated):
        return _restored_int4(form, gated=gated, channel=True)
    for code in _TABLE_CODES:
        for kind, kind_dtype in _TABLE_DTYPES.items():
            if kind_dtype == dtype and form.form == _tiles_name(f"{code}-{kind}", gated):
                return _restored_table(form, code, dtype=dtype, gated=gated)
    raise ValueError(f"unknown form {form.form!r}")


def _restored_rows(form: LinearForm) -> RowWeight:
    if form.shape[1] % ROW_COLUMNS:
        raise ValueError(f"{form.form}: {form.shape[1]} columns")
    kind = torch.int8 if form.form == INT8_ROWS else torch.uint8
    codes = tensor_of(form, "codes", form.shape, kind)
    return RowWeight(codes=codes, scale=tensor_of(form, "scale", form.shape[:1], torch.float32))


def _tiles_of(form: LinearForm, gated: bool) -> int:
    if gated and form.shape[0] % 2:
        raise ValueError(f"{form.form}: {form.shape[0]} rows are no two halves")
    count: int = tile_count(form.shape[0], gated)
    return count


def _restored_int4(form: LinearForm, *, gated: bool, channel: bool) -> Int4Tiles:
    n, k = form.shape
    group = form.group_size
    if group not in GROUP_SIZES or k % group:
        raise ValueError(f"{form.form}: group size {group} of {n} x {k}")
    tiles = _tiles_of(form, gated)
    block = max(group, UNIT_COLUMNS)
    wide = -(-k // block) * block
    return Int4Tiles(
        words=tensor_of(form, "words", (tiles, wide // UNIT_COLUMNS, 32, 4), torch.int32),
        pairs=tensor_of(form, "pairs", (tiles, wide // group, 8, 2, 2), torch.float16),
        channel=tensor_of(form, "channel", (n,), torch.float32) if channel else None,
        rows=n,
        columns=k,
        group_size=group,
        gated=gated,
    )


def _restored_table(
    form: LinearForm, code: TableCode, *, dtype: torch.dtype, gated: bool
) -> TableTiles:
    n, k = form.shape
    if k % UNIT_COLUMNS or form.group_size:
        raise ValueError(f"{form.form}: {n} x {k}, group size {form.group_size}")
    tiles = _tiles_of(form, gated)
    blocks = -(-k // (BLOCK_UNITS[code] * UNIT_COLUMNS))
    units = blocks if code == "lut3" else blocks * BLOCK_UNITS[code]
    planes = {"lut4": (tiles, 4, 8, 4), "lut3": (tiles, 2, 8, 4)}.get(code, (2, 8, 4))
    top = scales = nested = None
    if code == "lut3":
        top = tensor_of(form, "top", (tiles, blocks, 32, 2), torch.int32)
    if code == "codebook4":
        scales = tensor_of(form, "scales", (tiles, units, 8, 2), torch.float32)
    if code == "nested4":
        scales = tensor_of(form, "scales", (tiles, blocks, 8, 4), torch.uint8)
        count = table_pack.nested_count(n, k)
        nested = NestedTable(
            values=tensor_of(form, "nested_values", (256,), torch.float32),
            pairs=tensor_of(form, "nested_pairs", (count, 2), torch.float32),
        )
    return TableTiles(
        code=code,
        words=tensor_of(form, "words", (tiles, units, 32, 4), torch.int32),
        top=top,
        planes=tensor_of(form, "planes", planes, torch.int32),
        scales=scales,
        nested=nested,
        dtype=dtype,
        rows=n,
        columns=k,
        gated=gated,
    )


def sparse_tensors(sparse: SparseRows) -> dict[str, torch.Tensor]:
    """Entries kept apart, for the disk."""
    return {
        "sparse_starts": sparse.starts,
        "sparse_columns": sparse.columns,
        "sparse_values": sparse.values,
    }


def restored_sparse(form: LinearForm) -> SparseRows | None:
    """Entries kept apart, if the form has some; ValueError where they point outside the matrix."""
    if "sparse_starts" not in form.tensors:
        return None
    n, k = form.shape
    starts = tensor_of(form, "sparse_starts", (n + 1,), torch.int32)
    count = int(starts[-1])
    columns = tensor_of(form, "sparse_columns", (count,), torch.int32)
    values = tensor_of(form, "sparse_values", (count,), torch.float16)
    rising = bool((starts[1:] >= starts[:-1]).all()) and int(starts[0]) == 0
    inside = not count or (int(columns.min()) >= 0 and int(columns.max()) < k)
    if not rising or not inside:
        raise ValueError(f"{form.form}: sparse entries outside {n} x {k}")
    return SparseRows(starts, columns, values)
