"""The look-up of table codes, its assembly run by a warp in Python on packed tiles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("triton")

import torch
from quantchat.kernels.linear import table_codes, table_pack
from quantchat.kernels.linear.table_pack import TableTiles
from warp import run

LANE = torch.arange(32)
DTYPES = (torch.float16, torch.bfloat16)
Registers = list[npt.NDArray[np.generic]]


def registers(words: torch.Tensor) -> Registers:
    """int32 or fp32 [32, n] -> n registers."""
    return list(words.T.contiguous().numpy())


def activations(x: torch.Tensor) -> Registers:
    """x [8, K] as the lanes load it: four pairs from k = 8 c of every 32."""
    pairs = x.contiguous().view(torch.int32).view(8, -1, 4, 4)
    return [
        register
        for block in range(pairs.shape[1])
        for register in registers(pairs[LANE // 4, block, LANE % 4])
    ]


def sums(made: list[npt.NDArray[np.uint32]]) -> torch.Tensor:
    """Output registers as fp32 [16 rows, 8 tokens]."""
    total = torch.zeros(16, 8)
    for i, register in enumerate(made):
        values = torch.from_numpy(register.view(np.float32).copy())
        total[LANE // 4 + 8 * (i // 2), LANE % 4 * 2 + i % 2] = values
    return total


def program(constant: object, dtype: torch.dtype) -> str:
    text = constant.value[dtype == torch.bfloat16]  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def inputs(columns: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(columns)
    return (
        torch.randn(8, columns, generator=made).to(dtype),
        torch.randn(16, 8, generator=made),
    )


def check(
    made: list[npt.NDArray[np.uint32]], tiles: TableTiles, x: torch.Tensor, acc: torch.Tensor
) -> None:
    truth = acc + table_pack.dense(tiles) @ x.float().t()
    torch.testing.assert_close(sums(made), truth, rtol=1e-4, atol=1e-4)


def accumulators(acc: torch.Tensor) -> Registers:
    places = [acc[LANE // 4 + 8 * (i // 2), LANE % 4 * 2 + i % 2] for i in range(4)]
    return [place.numpy() for place in places]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_table_of_each_row(dtype: torch.dtype) -> None:
    codes = torch.randint(0, 16, (16, 64), dtype=torch.uint8)
    tiles = table_pack.pack_lut(codes, torch.randn(16, 16), dtype=dtype)
    x, acc = inputs(64, dtype)
    tables = [part for plane in tiles.planes[0] for part in registers(plane[LANE // 4])]
    given = [*registers(tiles.words[0, 0]), *activations(x), *tables, *accumulators(acc)]
    check(run(program(table_codes._LUT4, dtype), given, 4), tiles, x, acc)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_table_and_a_scale_of_each_row(dtype: torch.dtype) -> None:
    codes = torch.randint(0, 16, (16, 64), dtype=torch.uint8)
    tiles = table_pack.pack_codebook(codes, torch.randn(16), torch.rand(16, 1), dtype=dtype)
    assert tiles.scales is not None
    x, acc = inputs(64, dtype)
    table = [part for plane in tiles.planes for part in registers(plane[LANE // 4])]
    scales = tiles.scales[0, 0][LANE // 4]
    four = [part for half in range(2) for part in registers(scales[:, half, None].expand(32, 4))]
    given = [*registers(tiles.words[0, 0]), *activations(x), *table, *four, *accumulators(acc)]
    check(run(program(table_codes._CODEBOOK, dtype), given, 4), tiles, x, acc)


@pytest.mark.parametrize("dtype", DTYPES)
def test_three_bits_in_two_planes(dtype: torch.dtype) -> None:
    codes = torch.randint(0, 8, (16, 128), dtype=torch.uint8)
    tiles = table_pack.pack_lut(codes, torch.randn(16, 8), dtype=dtype)
    assert tiles.top is not None
    x, acc = inputs(128, dtype)
    tops = [part for i in range(2) for part in registers(tiles.top[0, 0][:, i, None].expand(32, 4))]
    tables = [part for plane in tiles.planes[0] for part in registers(plane[LANE // 4])]
    given = [*registers(tiles.words[0, 0]), *tops, *activations(x), *tables, *accumulators(acc)]
    check(run(program(table_codes._LUT3, dtype), given, 4), tiles, x, acc)


def test_four_lanes_share_their_values() -> None:
    value = np.arange(32, dtype=np.float32)
    made = run(table_codes._SHARED_BY_FOUR.value, [value], 4)
    for i, register in enumerate(made):
        assert (register.view(np.float32) == np.arange(32) // 4 * 4 + i).all()
