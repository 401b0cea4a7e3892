"""The order of table codes against a slow reading of its description."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

import torch
from quantchat.kernels.linear import table_pack
from quantchat.kernels.linear.table_pack import NestedTable, TableTiles

SHAPES = ((16, 64, False), (7, 192, False), (37, 128, False), (50, 320, True), (6, 64, True))
CODES = ("codebook4", "nested4", "lut4", "lut3")


def codes_of(rows: int, columns: int, entries: int) -> torch.Tensor:
    made = torch.Generator().manual_seed(rows * columns)
    return torch.randint(0, entries, (rows, columns), dtype=torch.uint8, generator=made)


def tiles_of(
    code: str, rows: int, columns: int, gated: bool, dtype: torch.dtype = torch.float16
) -> TableTiles:
    torch.manual_seed(columns)
    entries = 8 if code == "lut3" else 16
    codes = codes_of(rows, columns, entries)
    if code in ("lut4", "lut3"):
        return table_pack.pack_lut(codes, torch.randn(rows, entries), dtype=dtype, gated=gated)
    table, blocks = torch.randn(16), columns // 64
    if code == "codebook4":
        scales = torch.rand(rows, blocks)
        return table_pack.pack_codebook(codes, table, scales, dtype=dtype, gated=gated)
    count = table_pack.nested_count(rows, columns)
    nested = NestedTable(values=torch.rand(256), pairs=torch.rand(count, 2))
    scale_codes = torch.randint(0, 256, (rows, blocks), dtype=torch.uint8)
    return table_pack.pack_nested(codes, table, scale_codes, nested, dtype=dtype, gated=gated)


def row_place(packed: TableTiles, row: int) -> tuple[int, int, int]:
    """Tile, r and half of a row: r and r + 8, or gate and up of one output."""
    if packed.gated:
        half, n = divmod(row, packed.rows // 2)
        return n // 8, n % 8, half
    return row // 16, row % 8, row % 16 // 8


def code_at(packed: TableTiles, row: int, column: int) -> int:
    """As a lane finds it: lane 4 r + c has the eight k from 8 c of each 32."""
    tile, r, half = row_place(packed, row)
    unit, k = divmod(column, 64)
    lane, step, nibble = 4 * r + k // 8 % 4, k // 32 * 2 + k % 8 // 4, 4 * half + k % 4
    if packed.top is None:
        return int(packed.words[tile, unit, lane, step]) >> 4 * nibble & 15
    block, second = divmod(unit, 2)
    low = int(packed.words[tile, block, lane, 2 * second + step // 2])
    top = int(packed.top[tile, block, lane, second])
    return (low >> 4 * nibble + 2 * (step % 2) & 3) + 4 * (top >> 4 * nibble + step & 1)


def value_at(packed: TableTiles, row: int, code: int) -> torch.Tensor:
    """An entry of the table from its two bytes."""
    tile, r, half = row_place(packed, row)
    if packed.code == "lut4":
        planes = packed.planes[tile, 2 * half : 2 * half + 2, r]
    elif packed.code == "lut3":
        planes = packed.planes[tile, half, r].view(2, 2)
    else:
        planes = packed.planes[:, r]
    low, high = planes.contiguous().view(torch.uint8).view(2, -1)[:, code].tolist()
    bits = low | high << 8
    return torch.tensor(bits - (1 << 16 if bits >> 15 else 0), dtype=torch.int16).view(packed.dtype)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("rows", "columns", "gated"), SHAPES)
def test_every_code_is_where_its_lane_looks(
    code: str, rows: int, columns: int, gated: bool
) -> None:
    packed = tiles_of(code, rows, columns, gated)
    codes = codes_of(rows, columns, 8 if code == "lut3" else 16)
    assert packed.words.dtype == torch.int32 and packed.words.is_contiguous()
    assert torch.equal(table_pack.unpack_codes(packed), codes)
    for row in range(0, rows, 3):
        for column in range(row % 5, columns, 5):
            assert code_at(packed, row, column) == codes[row, column]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("code", CODES)
def test_tables_are_bytes_of_their_values(code: str, dtype: torch.dtype) -> None:
    packed = tiles_of(code, 37, 128, False, dtype)
    values = table_pack.table_values(packed)
    assert values.dtype == dtype
    for row in range(0, 37, 4):
        for entry in range(0, 8):
            expected = values[row, entry] if code in ("lut4", "lut3") else values[entry]
            assert torch.equal(value_at(packed, row, entry), expected)


def test_values_are_rounded_to_the_type_of_the_activations() -> None:
    table = torch.randn(16, 16)
    codes = codes_of(16, 64, 16)
    for dtype in (torch.float16, torch.bfloat16):
        packed = table_pack.pack_lut(codes, table, dtype=dtype)
        assert torch.equal(table_pack.table_values(packed), table.to(dtype))
        truth = table.to(dtype).float().gather(1, codes.long())
        assert torch.equal(table_pack.dense(packed), truth)


@pytest.mark.parametrize(("rows", "columns", "gated"), SHAPES)
def test_block_scales(rows: int, columns: int, gated: bool) -> None:
    plain = tiles_of("codebook4", rows, columns, gated)
    nested = tiles_of("nested4", rows, columns, gated)
    assert plain.scales is not None and nested.scales is not None and nested.nested is not None
    scales, codes = table_pack.block_scales(plain), table_pack.scale_codes(nested)
    wide = table_pack.block_scales(nested)
    assert scales.shape == codes.shape == wide.shape == (rows, columns // 64)
    for row in range(rows):
        tile, r, half = row_place(plain, row)
        for unit in range(columns // 64):
            assert plain.scales[tile, unit, r, half] == scales[row, unit]
            code = nested.scales[tile, unit // 2, r, 2 * (unit % 2) + half]
            assert code == codes[row, unit]
            scale, offset = nested.nested.pairs[(row * (columns // 64) + unit) // 256]
            truth = nested.nested.values[code.long()] * scale + offset
            torch.testing.assert_close(wide[row, unit], truth)


def test_golden_words() -> None:
    codes = (torch.arange(64)[None, :] + 3 * torch.arange(16)[:, None]).remainder(16).byte()
    packed = table_pack.pack_lut(codes, torch.zeros(16, 16), dtype=torch.float16)
    # Row 0 has codes 0 1 2 3, row 8 the same and 8 more.
    assert packed.words[0, 0, 0, 0].item() & 0xFFFFFFFF == 0xBA983210
    assert packed.words[0, 0, 0, 1].item() & 0xFFFFFFFF == 0xFEDC7654
    assert packed.words[0, 0, 4, 0].item() & 0xFFFFFFFF == 0xEDCB6543


def test_golden_planes() -> None:
    codes = torch.arange(128).remainder(8).byte().expand(16, 128).contiguous()
    codes[8:] = 0
    packed = table_pack.pack_lut(codes, torch.zeros(16, 8), dtype=torch.float16)
    assert packed.top is not None and packed.words.shape == (1, 1, 32, 4)
    # Row 0: codes 0 1 2 3 in the first step, 4 5 6 7 in the second, both 0 1 2 3 in two bits.
    assert packed.words[0, 0, 0].tolist() == [0x0000FA50] * 4
    assert packed.top[0, 0, 0].tolist() == [0x0000AAAA] * 2


def test_golden_table() -> None:
    table = torch.full((16, 16), 0.0)
    table[0, :4] = torch.tensor([1.0, -1.0, 0.5, 2.0])
    packed = table_pack.pack_lut(codes_of(16, 64, 16), table, dtype=torch.float16)
    assert packed.planes.shape == (1, 4, 8, 4)
    assert packed.planes[0, 0, 0, 0] == 0
    assert packed.planes[0, 1, 0, 0].item() & 0xFFFFFFFF == 0x4038BC3C


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("gated", [False, True])
def test_what_is_beyond_the_matrix_is_zero(code: str, gated: bool) -> None:
    packed = tiles_of(code, 6, 64, gated)
    full = tiles_of(code, 16, 64, False)
    for part, whole in ((packed.words, full.words), (packed.scales, full.scales)):
        if part is None or whole is None:
            continue
        rows = part.view(torch.uint8).view(*part.shape[:2], 8, -1)
        assert not rows[:, :, 3 if gated else 6 :].any()
        assert whole.any()


@pytest.mark.parametrize(
    ("codes", "table"),
    [
        (torch.zeros(16, 96, dtype=torch.uint8), torch.zeros(16, 16)),
        (torch.zeros(16, 64, dtype=torch.int8), torch.zeros(16, 16)),
        (torch.full((16, 64), 8, dtype=torch.uint8), torch.zeros(16, 8)),
        (torch.zeros(16, 64, dtype=torch.uint8), torch.zeros(16, 12)),
    ],
)
def test_what_does_not_fit_is_refused(codes: torch.Tensor, table: torch.Tensor) -> None:
    with pytest.raises(AssertionError):
        table_pack.pack_lut(codes, table, dtype=torch.float16)
