"""Order of codes that index tables, of the tables and of block scales, as lanes read them.

Tiles, units and lanes are those of int4; the eight nibbles of a word are four k of row r, then the
same of row r + 8. Codes of three bits take a block of two units: four words of their two low bits,
two k steps in one word, and a word a unit of their top bits, four steps in one. Values of tables
are split into low and high bytes, sixteen (or eight) of each beside each other; with bf16
activations they are rounded to bf16 here, else to fp16.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from .pack import UNIT_COLUMNS, matrix_rows, pad_columns, tile_rows

TableCode: TypeAlias = Literal["codebook4", "nested4", "lut4", "lut3"]
"""One table of 16 and a scale for 64 k, in fp32 or in 8 bits; a table of 16, or of 8, for a row."""
NESTED_BLOCKS = 256
"""Block scales of 8 bits that share a scale and an offset."""
BLOCK_UNITS = {"codebook4": 1, "nested4": 2, "lut4": 1, "lut3": 2}
"""Units that are read together."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NestedTable:
    """What 8-bit block scales stand for: `values[code] * pairs[block // 256, 0] + pairs[.., 1]`.

    Blocks are counted row by row of the matrix, not of the tiles.
    """

    values: torch.Tensor
    """fp32 [256]."""
    pairs: torch.Tensor
    """fp32 [ceil(N * K / 64 / 256), 2]: scale and offset."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableTiles:
    """A matrix [N, K] of codes that index tables, in the order of the kernel."""

    code: TableCode
    words: torch.Tensor
    """int32 [tiles, units, 32, 4]; two low bits of lut3 [tiles, blocks, 32, 4]."""
    top: torch.Tensor | None
    """int32 [tiles, blocks, 32, 2]: top bits of lut3."""
    planes: torch.Tensor
    """int32, bytes of table values: lut4 [tiles, 4, 8, 4], lut3 [tiles, 2, 8, 4], one for all [2, 8, 4].

    That one is there for every r as well: read alike by all lanes, it would be kept where only one
    value a warp fits, and copied from there for every look-up.
    """
    scales: torch.Tensor | None
    """codebook4: fp32 [tiles, units, 8, 2], rows r and r + 8; nested4: uint8 [tiles, blocks, 8, 4],
    those of the first unit, then of the second."""
    nested: NestedTable | None
    dtype: torch.dtype
    """fp16 or bf16: of the table's values, as the activations'."""
    rows: int
    columns: int
    gated: bool

    @property
    def nbytes(self) -> int:
        """Bytes of codes, tables and scales."""
        parts = [self.words, self.top, self.planes, self.scales]
        if self.nested is not None:
            parts += [self.nested.values, self.nested.pairs]
        return sum(part.nbytes for part in parts if part is not None)


def wide_columns(code: TableCode, columns: int) -> int:
    """Columns of whole blocks."""
    block = BLOCK_UNITS[code] * UNIT_COLUMNS
    return -(-columns // block) * block


def nested_count(rows: int, columns: int) -> int:
    """Pairs of scale and offset of a matrix's nested scales."""
    return -(-rows * (columns // UNIT_COLUMNS) // NESTED_BLOCKS)


def byte_planes(table: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Low and high bytes, uint8 [..., entries], of a table's values in a 16-bit dtype."""
    bits = table.to(dtype).contiguous().view(torch.int16).to(torch.int32)
    return (bits & 255).to(torch.uint8), ((bits >> 8) & 255).to(torch.uint8)


def _check(codes: torch.Tensor, limit: int, dtype: torch.dtype, gated: bool) -> None:
    rows, columns = codes.shape
    assert codes.dtype == torch.uint8, f"codes must be uint8: {codes.dtype}"
    assert columns % UNIT_COLUMNS == 0, f"{columns} columns are no multiple of {UNIT_COLUMNS}"
    assert dtype in (torch.float16, torch.bfloat16), f"tables are fp16 or bf16, not {dtype}"
    assert not gated or rows % 2 == 0
    assert not codes.numel() or int(codes.max()) < limit, f"codes go up to {limit - 1}"


def _fields(tiled: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """(nibble, view [T, unit, r, c, 32-block, step]) of codes [T, 2, 8, K]."""
    tiles, units = tiled.shape[0], tiled.shape[3] // UNIT_COLUMNS
    # [T, half row, r, unit, 32-block, c, step in block, k in step]
    view = tiled.view(tiles, 2, 8, units, 2, 4, 2, 4)
    for half in range(2):
        for k in range(4):
            yield 4 * half + k, view[:, half, :, :, :, :, :, k].permute(0, 2, 1, 4, 3, 5)


def _words(codes: torch.Tensor, code: TableCode, gated: bool) -> torch.Tensor:
    """int32 [tiles, units, 32, 4] of four-bit codes."""
    tiled = tile_rows(pad_columns(codes, wide_columns(code, codes.shape[1])), gated)
    tiles, units = tiled.shape[0], tiled.shape[3] // UNIT_COLUMNS
    words = torch.zeros(tiles, units, 8, 4, 2, 2, dtype=torch.int32, device=codes.device)
    for nibble, field in _fields(tiled):
        words |= field.to(torch.int32) << 4 * nibble
    return words.view(tiles, units, 32, 4)


def _bit_planes(codes: torch.Tensor, gated: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """int32 [tiles, blocks, 32, 4] and [tiles, blocks, 32, 2] of three-bit codes."""
    tiled = tile_rows(pad_columns(codes, wide_columns("lut3", codes.shape[1])), gated)
    tiles, units = tiled.shape[0], tiled.shape[3] // UNIT_COLUMNS
    low = torch.zeros(tiles, units, 8, 4, 2, dtype=torch.int32, device=codes.device)
    top = torch.zeros(tiles, units, 8, 4, dtype=torch.int32, device=codes.device)
    for nibble, field in _fields(tiled):
        wide = field.to(torch.int32)
        for step in range(2):
            low |= (wide[..., step] & 3) << (4 * nibble + 2 * step)
            for block in range(2):
                top |= (wide[..., block, step] >> 2) << (4 * nibble + 2 * block + step)
    # [T, block, unit, r, c, ...] -> [T, block, r, c, unit, ...]
    low = low.view(tiles, units // 2, 2, 8, 4, 2).permute(0, 1, 3, 4, 2, 5)
    top = top.view(tiles, units // 2, 2, 8, 4).permute(0, 1, 3, 4, 2)
    return (
        low.reshape(tiles, units // 2, 32, 4).contiguous(),
        top.reshape(tiles, units // 2, 32, 2).contiguous(),
    )


def codebook_planes(table: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """int32 [2, 8, 4] of one table [16]."""
    planes = torch.stack(byte_planes(table, dtype)).view(torch.int32)
    return planes[:, None].expand(2, 8, 4).contiguous()


def pack_codebook(
    codes: torch.Tensor,
    table: torch.Tensor,
    scales: torch.Tensor,
    *,
    dtype: torch.dtype,
    gated: bool = False,
) -> TableTiles:
    """Codes uint8 [N, K] below 16, one table fp32 [16], a scale fp32 [N, K / 64] for 64 k."""
    _check(codes, 16, dtype, gated)
    rows, columns = codes.shape
    assert table.shape == (16,) and scales.shape == (rows, columns // UNIT_COLUMNS)
    return TableTiles(
        code="codebook4",
        words=_words(codes, "codebook4", gated),
        top=None,
        planes=codebook_planes(table, dtype),
        scales=tile_rows(scales.float(), gated).permute(0, 3, 2, 1).contiguous(),
        nested=None,
        dtype=dtype,
        rows=rows,
        columns=columns,
        gated=gated,
    )


def pack_nested(
    codes: torch.Tensor,
    table: torch.Tensor,
    scale_codes: torch.Tensor,
    nested: NestedTable,
    *,
    dtype: torch.dtype,
    gated: bool = False,
) -> TableTiles:
    """As pack_codebook with block scales in 8 bits, uint8 [N, K / 64]."""
    _check(codes, 16, dtype, gated)
    rows, columns = codes.shape
    assert table.shape == (16,) and scale_codes.shape == (rows, columns // UNIT_COLUMNS)
    assert scale_codes.dtype == torch.uint8 and nested.values.shape == (256,)
    assert nested.pairs.shape == (nested_count(rows, columns), 2)
    assert nested.values.dtype == nested.pairs.dtype == torch.float32
    units = wide_columns("nested4", columns) // UNIT_COLUMNS
    tiled = tile_rows(pad_columns(scale_codes, units), gated)
    scales = tiled.view(tiled.shape[0], 2, 8, units // 2, 2).permute(0, 3, 2, 4, 1)
    return TableTiles(
        code="nested4",
        words=_words(codes, "nested4", gated),
        top=None,
        planes=codebook_planes(table, dtype),
        scales=scales.reshape(tiled.shape[0], units // 2, 8, 4).contiguous(),
        nested=NestedTable(values=nested.values.contiguous(), pairs=nested.pairs.contiguous()),
        dtype=dtype,
        rows=rows,
        columns=columns,
        gated=gated,
    )


def pack_lut(
    codes: torch.Tensor,
    table: torch.Tensor,
    *,
    dtype: torch.dtype,
    gated: bool = False,
) -> TableTiles:
    """Codes uint8 [N, K] and a table of each row, fp16 [N, 16] or [N, 8]."""
    entries = table.shape[1]
    assert entries in (8, 16) and table.shape[0] == codes.shape[0]
    _check(codes, entries, dtype, gated)
    code: TableCode = "lut4" if entries == 16 else "lut3"
    low, high = (tile_rows(plane, gated) for plane in byte_planes(table, dtype))
    # lut4: [T, half, plane, r, 16]; lut3: both planes in one, [T, half, r, 8 + 8].
    planes = torch.stack((low, high), dim=2) if code == "lut4" else torch.cat((low, high), dim=-1)
    planes = planes.contiguous().view(torch.int32).view(low.shape[0], -1, 8, 4)
    words, top = (_words(codes, code, gated), None) if code == "lut4" else _bit_planes(codes, gated)
    return TableTiles(
        code=code,
        words=words,
        top=top,
        planes=planes,
        scales=None,
        nested=None,
        dtype=dtype,
        rows=codes.shape[0],
        columns=codes.shape[1],
        gated=gated,
    )


def unpack_codes(packed: TableTiles) -> torch.Tensor:
    """Codes uint8 [N, K]."""
    wide = wide_columns(packed.code, packed.columns)
    tiles, units = packed.words.shape[0], wide // UNIT_COLUMNS
    tiled = torch.empty(tiles, 2, 8, wide, dtype=torch.uint8, device=packed.words.device)
    if packed.top is None:
        words = packed.words.view(tiles, units, 8, 4, 2, 2)
        for nibble, field in _fields(tiled):
            field.copy_((words >> 4 * nibble) & 15)
    else:
        low = packed.words.view(tiles, units // 2, 8, 4, 2, 2).permute(0, 1, 4, 2, 3, 5)
        top = packed.top.view(tiles, units // 2, 8, 4, 2).permute(0, 1, 4, 2, 3)
        low, top = low.reshape(tiles, units, 8, 4, 2), top.reshape(tiles, units, 8, 4)
        for nibble, field in _fields(tiled):
            for block in range(2):
                for step in range(2):
                    upper = (top >> (4 * nibble + 2 * block + step)) & 1
                    lower = (low[..., block] >> (4 * nibble + 2 * step)) & 3
                    field[..., block, step] = (lower + 4 * upper).to(torch.uint8)
    return matrix_rows(tiled, packed.rows, packed.gated)[:, : packed.columns].contiguous()


def table_values(packed: TableTiles) -> torch.Tensor:
    """The table's values in its dtype: codebooks [16], others [N, 16] or [N, 8]."""
    raw = packed.planes.view(torch.uint8)
    if packed.code in ("codebook4", "nested4"):
        low, high = raw[0, 0], raw[1, 0]
    else:
        halves = raw.view(raw.shape[0], 2, -1, 8, 16)
        if packed.code == "lut4":
            low, high = halves[:, :, 0], halves[:, :, 1]
        else:
            low, high = halves[:, :, 0, :, :8], halves[:, :, 0, :, 8:]
        low, high = (matrix_rows(part, packed.rows, packed.gated) for part in (low, high))
    bits = low.to(torch.int32) | (high.to(torch.int32) << 8)
    return bits.to(torch.int16).view(packed.dtype)


def scale_codes(packed: TableTiles) -> torch.Tensor:
    """Codes of nested block scales, uint8 [N, K / 64]."""
    assert packed.scales is not None and packed.code == "nested4"
    tiles, blocks = packed.scales.shape[:2]
    tiled = packed.scales.view(tiles, blocks, 8, 2, 2).permute(0, 4, 2, 1, 3)
    flat = matrix_rows(tiled, packed.rows, packed.gated).reshape(packed.rows, -1)
    return flat[:, : packed.columns // UNIT_COLUMNS].contiguous()


def block_scales(packed: TableTiles) -> torch.Tensor:
    """Scales of 64 k, fp32 [N, K / 64]."""
    assert packed.scales is not None
    if packed.nested is None:
        return matrix_rows(packed.scales.permute(0, 3, 2, 1), packed.rows, packed.gated)
    codes = scale_codes(packed)
    block = torch.arange(codes.numel(), device=codes.device).view(codes.shape) // NESTED_BLOCKS
    pair = packed.nested.pairs[block]
    return packed.nested.values[codes.long()] * pair[..., 0] + pair[..., 1]


def dense(packed: TableTiles) -> torch.Tensor:
    """What the tiles stand for, fp32 [N, K]: the truth for the kernels."""
    codes, table = unpack_codes(packed).long(), table_values(packed).float()
    if packed.scales is None:
        return table.gather(1, codes)
    return table[codes] * block_scales(packed).repeat_interleave(UNIT_COLUMNS, dim=1)
