"""Tiles of the 8-bit products, and which one a number of rows gets."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from .._launch import ceil_div


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """What a program computes, and how."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    group: int = 8
    """Row tiles that follow each other before the next column tile."""
    walkers: int = 0
    """Programs a multiprocessor that walk over tiles which the card copies by itself (SM 90 and up);
    0: one program a tile, whose threads copy."""


PARTED_GROUPS = 2
"""Groups of four warps that multiply beside the warp that copies."""
GROUP_COLUMNS = 64
PARTED_DEPTH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """A tile of 128 columns for warps that each do one thing; one program a multiprocessor."""

    rows: int
    stages: int

    @property
    def columns(self) -> int:
        """Of a program."""
        return PARTED_GROUPS * GROUP_COLUMNS


WALKED = Tile(rows=128, columns=128, depth=128, warps=4, stages=3, walkers=2)
WALKED_LOW = Tile(rows=64, columns=32, depth=256, warps=4, stages=4, walkers=2)
ONE_WAVE = (
    (64, Tile(rows=64, columns=32, depth=256, warps=4, stages=4)),
    (128, Tile(rows=64, columns=64, depth=256, warps=4, stages=3)),
    (256, Tile(rows=64, columns=128, depth=128, warps=4, stages=4)),
    (sys.maxsize, Tile(rows=128, columns=64, depth=128, warps=4, stages=4)),
)
"""SM 90: up to so many rows, the tile of products whose tiles all run at once; more are walked."""
WAVE_PROGRAMS = 2
"""Programs of ONE_WAVE that a multiprocessor of SM 90 holds."""
SQUARE = Tile(rows=128, columns=128, depth=128, warps=4, stages=3)
SMALL = Tile(rows=128, columns=128, depth=64, warps=4, stages=3)
"""Fits the shared memory of cards with 99 KiB."""
PARTED = (
    (64, 256, 8192, 32, Parted(rows=128, stages=5)),
    (192, 256, 0, 64, Parted(rows=128, stages=5)),
    (448, 512, 8192, 64, Parted(rows=256, stages=4)),
    (448, 512, 0, 96, Parted(rows=256, stages=4)),
)
"""SM 90: above so many rows, up to so many, least columns of the codes, least tiles, and the tile."""


def product_tile(
    rows: int, columns: int, depth: int, sm: int, multiprocessors: int
) -> Tile | Parted:
    """The tile of a product [rows, columns] over `depth` on a card of that SM version and size.

    Chosen by what an H100 takes for the linears of Llama-3.1-8B at 64 to 2048 rows: few tiles are
    made small until they fill the card, many are copied by the card while others are multiplied; those
    of few rows or a long depth are multiplied by warps that do nothing else.
    """
    if sm != 90:
        return SQUARE if sm == 100 else SMALL
    for above, most, least_depth, least_tiles, parted in PARTED:
        tiles = ceil_div(rows, parted.rows) * ceil_div(columns, parted.columns)
        if above < rows <= most and depth >= least_depth and tiles >= least_tiles:
            return parted
    tile = next(tile for most, tile in ONE_WAVE if rows <= most)
    tiles = ceil_div(rows, tile.rows) * ceil_div(columns, tile.columns)
    if tiles <= WAVE_PROGRAMS * multiprocessors:
        return tile
    return WALKED_LOW if rows <= WALKED_LOW.rows else WALKED
