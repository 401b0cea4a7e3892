"""Tiles of tables made dense, and two-level int4 made int8, interpreted, on awkward shapes."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.linear import table_pack
from quantchat.kernels.linear.dequantize import dequantize, expand
from quantchat.kernels.linear.pack import pack
from quantchat.kernels.linear.table_dequantize import dequantize_table
from quantchat.kernels.linear.table_pack import NestedTable, TableTiles

SHAPES = ((5, 64, False), (33, 192, False), (40, 320, True), (6, 576, True))
DTYPES = (torch.float16, torch.bfloat16)


def close(made: torch.Tensor, truth: torch.Tensor) -> None:
    # The interpreter cuts where a card rounds to bf16: one unit, not half of one.
    tolerance = 8e-3 if made.dtype == torch.bfloat16 else 1e-3
    torch.testing.assert_close(made.float(), truth, rtol=tolerance, atol=1e-6)


def table_tiles(code: str, rows: int, columns: int, dtype: torch.dtype, gated: bool) -> TableTiles:
    entries = 8 if code == "lut3" else 16
    codes = torch.randint(0, entries, (rows, columns), dtype=torch.uint8)
    if code in ("lut4", "lut3"):
        return table_pack.pack_lut(codes, torch.randn(rows, entries), dtype=dtype, gated=gated)
    table = torch.randn(16)
    blocks = columns // 64
    if code == "codebook4":
        scales = torch.rand(rows, blocks)
        return table_pack.pack_codebook(codes, table, scales, dtype=dtype, gated=gated)
    nested = NestedTable(
        values=torch.rand(256) + 0.1,
        pairs=torch.rand(table_pack.nested_count(rows, columns), 2) + 0.1,
    )
    scale_codes = torch.randint(0, 256, (rows, blocks), dtype=torch.uint8)
    return table_pack.pack_nested(codes, table, scale_codes, nested, dtype=dtype, gated=gated)


@pytest.mark.parametrize(("rows", "columns", "gated"), SHAPES)
@pytest.mark.parametrize("code", ["codebook4", "nested4", "lut4", "lut3"])
def test_dequantize_table(code: str, rows: int, columns: int, gated: bool) -> None:
    for dtype in DTYPES:
        tiles = table_tiles(code, rows, columns, dtype, gated)
        out = torch.full((rows, columns), float("nan"), dtype=dtype)
        close(dequantize_table(tiles, dtype, out=out), table_pack.dense(tiles))


def test_nested_scales_beyond_one_block_of_256() -> None:
    tiles = table_tiles("nested4", 90, 384, torch.float16, False)
    assert tiles.nested is not None and len(tiles.nested.pairs) == 3
    close(dequantize_table(tiles, torch.float16), table_pack.dense(tiles))


@pytest.mark.parametrize(("rows", "columns", "gated"), SHAPES)
@pytest.mark.parametrize("group", [32, 64])
def test_expand(rows: int, columns: int, gated: bool, group: int) -> None:
    codes = torch.randint(0, 16, (rows, columns), dtype=torch.uint8)
    scale = torch.randint(1, 17, (rows, columns // group)).half()
    zero = torch.randint(0, 16, (rows, columns // group)).half()
    wide = [part.float().repeat_interleave(group, 1) for part in (scale, zero)]
    truth = ((codes.float() - wide[1]) * wide[0]).clamp(-128, 127)
    codes = torch.where(
        truth == (codes.float() - wide[1]) * wide[0], codes, zero.repeat_interleave(group, 1).byte()
    )
    truth = (codes.float() - wide[1]) * wide[0]
    channel = torch.rand(rows)
    tiles = pack(codes, scale, -zero * scale, group, gated=gated, channel=channel)
    out = torch.full((rows, columns), 77, dtype=torch.int8)
    assert torch.equal(expand(tiles, out=out).float(), truth)
    for dtype in DTYPES:
        close(dequantize(tiles, dtype), truth * channel[:, None])
