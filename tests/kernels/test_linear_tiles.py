"""Launch shapes of the decode linears: what must hold of every one on every card."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from quantchat.kernels.linear.launch import LOWEST_SM
from quantchat.kernels.linear.tiles import (
    FORMS,
    SCRATCH_BYTES,
    LinearShape,
    Tile,
    block_columns,
    candidates,
    forget_installed,
    program_bytes,
    shipped,
    table_count,
    tile_for,
)
from quantchat.kernels.linear.tuned import TUNED

SHARED_KIB = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
COLUMNS = (64, 576, 640, 896, 1536, 2048, 2560, 3072, 4096, 5120, 8192, 14336, 18944, 28672, 53248)


@pytest.fixture(autouse=True)
def nothing_installed() -> None:
    forget_installed()


def shapes(code: str, group: int) -> list[LinearShape]:
    return [
        LinearShape(
            code=code,
            group_size=group,
            outputs=outputs,
            columns=columns,
            gated=gated,
            one_row=one_row,
        )
        for columns in COLUMNS
        if not group or columns % group == 0
        for outputs in (72, 4096, 151936)
        for gated in (False, True)
        for one_row in (False, True)
    ]


def is_power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0


@pytest.mark.parametrize("sm", SHARED_KIB)
@pytest.mark.parametrize(("code", "group"), FORMS)
def test_every_tile_fits_its_card(code: str, group: int, sm: int) -> None:
    for shape in shapes(code, group):
        tried = candidates(shape, sm)
        assert tried and len(set(tried)) == len(tried)
        for tile in (tile_for(shape, sm), *tried):
            assert is_power_of_two(tile.warps) and tile.warps <= 16
            assert is_power_of_two(tile.blocks)
            assert is_power_of_two(tile.stages) and tile.stages >= 2
            assert tile.programs >= 1
            assert program_bytes(shape, tile) <= SHARED_KIB[sm] * 1024


@pytest.mark.parametrize(("code", "group"), FORMS)
def test_few_lanes_idle_on_short_rows(code: str, group: int) -> None:
    for shape in shapes(code, group):
        blocks = -(-shape.columns // block_columns(code, group))
        for tile in candidates(shape, 90):
            assert tile.warps * tile.blocks < max(2, 2 * blocks)


def test_bytes_of_a_program_as_the_compiler_counts_them() -> None:
    # Counted in binaries of two Triton releases, with and without the reductions' own bytes.
    shape = LinearShape(
        code="int4", group_size=128, outputs=4096, columns=14336, gated=False, one_row=True
    )
    tile = Tile(warps=8, blocks=2, programs=2, stages=2)
    words, scales, sums, finished = 2 * 16 * 1024, 2 * 16 * 64, 128 * 32, 2 * 8 * 512
    assert program_bytes(shape, tile) == words + scales + sums + finished + SCRATCH_BYTES


def test_bytes_of_tables_of_rows() -> None:
    shape = LinearShape(
        code="lut4", group_size=0, outputs=4096, columns=4096, gated=False, one_row=False
    )
    tile = Tile(warps=4, blocks=4, programs=2, stages=2)
    words, tables, finished = 2 * 16 * 512, 2 * 512, 2 * 4 * 512
    assert program_bytes(shape, tile) == words + tables + finished + SCRATCH_BYTES


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("stages", [2, 4, 8])
def test_no_table_is_replaced_while_it_is_read(steps: int, stages: int) -> None:
    count = table_count(steps, stages)
    assert is_power_of_two(count)
    read = -1
    for item in range(20 * steps):
        # A step is read, then the one that is `stages` ahead starts its copies.
        read = item // steps
        ahead = item + stages
        if ahead % steps == 0 and ahead // steps != read:
            last_step_of_read = item % steps == steps - 1
            same_place = (ahead // steps) % count == read % count
            assert not same_place or last_step_of_read
        still_to_come = range(read + 1, (item + stages) // steps + 1)
        assert len({tile % count for tile in still_to_come}) == len(still_to_come)


def test_measured_tiles_are_taken_where_they_were_measured() -> None:
    for (sm, code, group, one_row), table in TUNED.items():
        assert sm >= LOWEST_SM
        for (outputs, columns), launch in table.items():
            shape = LinearShape(
                code=code,
                group_size=group,
                outputs=outputs,
                columns=columns,
                gated=False,
                one_row=one_row,
            )
            tile = tile_for(shape, sm)
            assert tile == shipped(shape, sm)
            assert (tile.warps, tile.blocks, tile.programs, tile.stages) == launch
            assert program_bytes(shape, tile) <= SHARED_KIB[sm] * 1024
            assert shipped(shape, 75) is None
