"""The order of int4 tiles against a slow reading of its description, and the linear's reference."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

import torch
from quantchat.kernels.linear import reference
from quantchat.kernels.linear.pack import Int4Tiles, pack, unpack

CASES = (
    # rows, columns, group, gated
    (16, 64, 64, False),
    (16, 128, 128, True),
    (7, 96, 32, False),
    (37, 192, 64, False),
    (50, 640, 128, True),
    (6, 160, 32, True),
    (200, 384, 128, False),
)


def parts(rows: int, columns: int, group: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(rows * columns)
    codes = torch.randint(0, 16, (rows, columns), dtype=torch.uint8, generator=made)
    scale, offset = torch.randn(2, rows, columns // group, generator=made).half()
    return codes, scale, offset


def place(packed: Int4Tiles, row: int, column: int) -> tuple[int, int, int, int, int]:
    """Tile, unit, lane, word and nibble of a code: lane 4 r + c has rows r and r + 8, k from 8 c."""
    tile, within = divmod(row, 16)
    if packed.gated:
        half_rows = packed.rows // 2
        tile, within = divmod(row % half_rows, 8)
        within += 8 * (row // half_rows)
    unit, k = divmod(column, 64)
    half, k = divmod(k, 32)
    lane = within % 8 * 4 + k // 8
    word = 2 * half + k % 8 // 4
    pair, element = divmod(k % 4, 2)
    return tile, unit, lane, word, within // 8 + 2 * pair + 4 * element


@pytest.mark.parametrize(("rows", "columns", "group", "gated"), CASES)
def test_unpack_undoes_pack(rows: int, columns: int, group: int, gated: bool) -> None:
    codes, scale, offset = parts(rows, columns, group)
    packed = pack(codes, scale, offset, group, gated=gated)
    assert packed.words.dtype == torch.int32 and packed.words.is_contiguous()
    assert packed.pairs.dtype == torch.float16 and packed.pairs.is_contiguous()
    for made, given in zip(unpack(packed), (codes, scale, offset), strict=True):
        assert torch.equal(made, given)


@pytest.mark.parametrize(("rows", "columns", "group", "gated"), CASES)
def test_every_code_is_where_its_lane_looks(
    rows: int, columns: int, group: int, gated: bool
) -> None:
    codes, scale, offset = parts(rows, columns, group)
    packed = pack(codes, scale, offset, group, gated=gated)
    words = packed.words.tolist()
    for row in range(0, rows, 3):
        for column in range(row % 5, columns, 5):
            tile, unit, lane, word, nibble = place(packed, row, column)
            assert words[tile][unit][lane][word] >> 4 * nibble & 15 == codes[row, column]
    for row in range(rows):
        tile, _, lane, _, nibble = place(packed, row, 0)
        for number in range(columns // group):
            pair = packed.pairs[tile, number, lane // 4, nibble % 2]
            assert torch.equal(pair, torch.stack((scale[row, number], offset[row, number])))


def test_golden_words() -> None:
    codes = (torch.arange(64)[None, :] + 3 * torch.arange(16)[:, None]).remainder(16).byte()
    ones = torch.ones(16, 1).half()
    packed = pack(codes, ones, -8 * ones, 64)
    assert packed.words.shape == (1, 1, 32, 4) and packed.pairs.shape == (1, 1, 8, 2, 2)
    # Row 0 has codes 0 1 2 3, row 8 the same and 8 more: nibbles 0, 8, 2, 10, 1, 9, 3, 11.
    assert packed.words[0, 0, 0, 0].item() & 0xFFFFFFFF == 0xB391A280
    assert packed.words[0, 0, 0, 1].item() & 0xFFFFFFFF == 0xF7D5E6C4
    assert packed.words[0, 0, 4, 0].item() & 0xFFFFFFFF == 0xE6C4D5B3


@pytest.mark.parametrize("gated", [False, True])
def test_what_is_beyond_the_matrix_is_zero(gated: bool) -> None:
    codes, scale, offset = parts(6, 96, 32)
    packed = pack(codes | 8, scale.abs() + 1, offset.abs() + 1, 32, gated=gated)
    assert packed.words.shape[:2] == (1, 2)
    inside = torch.zeros(1, 2, 32, 4, dtype=torch.int64)
    for row in range(6):
        for column in range(96):
            tile, unit, lane, word, nibble = place(packed, row, column)
            inside[tile, unit, lane, word] |= 15 << 4 * nibble
    assert not (packed.words.long() & 0xFFFFFFFF & ~inside).any()
    assert packed.pairs.count_nonzero() == 6 * 3 * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reference_is_a_norm_and_a_linear_of_torch(dtype: torch.dtype) -> None:
    residual = (torch.randn(3, 40) * 5).to(dtype)
    gamma, bias = torch.rand(40).to(dtype), torch.randn(12).to(dtype)
    weight = torch.randn(12, 40)
    scaled = reference.scaled_by_gamma(residual, gamma)
    made = reference.linear(
        scaled, weight, bias=bias, squares=reference.squares_of(residual), eps=1e-5, gated=True
    )
    normed = torch.nn.functional.rms_norm(residual.float(), (40,), gamma.float(), 1e-5)
    both = torch.nn.functional.linear(normed, weight, bias.float())
    truth = torch.nn.functional.silu(both[:, :6]) * both[:, 6:]
    tolerance = 2e-2 if dtype == torch.bfloat16 else 2e-3
    torch.testing.assert_close(made, truth, rtol=tolerance, atol=10 * tolerance)


def test_a_residual_times_gamma_stays_in_range() -> None:
    residual = torch.full((1, 16), 60000.0).half()
    scaled = reference.scaled_by_gamma(residual, torch.full((16,), 3.0).half())
    assert torch.isfinite(scaled).all()
    assert reference.squares_of(residual).item() == pytest.approx(16 * 60000.0**2, rel=1e-3)
