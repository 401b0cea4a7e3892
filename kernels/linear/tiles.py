"""How a decode linear is spread over a card: measured on it, else as shipped, else by a rule."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .tuned import TUNED, Launch

FORM = 1
"""Version of what a tile means to the kernel; tiles measured under another one are not taken."""
Origin: TypeAlias = Literal["measured", "shipped", "rule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Launch shape of one decode linear."""

    warps: int
    """Warps of a program, which share the K axis; a power of two."""
    blocks: int
    """Blocks along K that a warp has under way at once; a power of two."""
    programs: int
    """Programs a multiprocessor; each walks over the tiles of output rows."""
    stages: int
    """Steps in shared memory at once; a power of two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearShape:
    """What a tile is chosen by."""

    code: str
    """int4, int8, fp8, dense, codebook4, nested4, lut4 or lut3."""
    group_size: int
    outputs: int
    """Rows of the weight; both halves where gated."""
    columns: int
    gated: bool
    one_row: bool


TRIED_INT4: tuple[Launch, ...] = (
    (4, 4, 2, 2),
    (8, 2, 2, 2),
    (4, 2, 4, 2),
    (4, 2, 2, 4),
    (8, 1, 2, 4),
    (2, 4, 4, 2),
)
TRIED: tuple[Launch, ...] = (
    (4, 4, 2, 2),
    (8, 4, 2, 2),
    (4, 4, 4, 2),
    (8, 2, 2, 2),
    (4, 2, 4, 2),
    (4, 2, 2, 4),
)
"""Warps, blocks, programs, stages, likeliest first: 8 and 16 bits have more bytes a block."""
TRIED_TABLES: tuple[Launch, ...] = (
    (4, 4, 4, 2),
    (4, 4, 2, 2),
    (8, 4, 1, 2),
    (8, 2, 2, 2),
    (4, 2, 4, 2),
    (4, 2, 2, 4),
)
"""For codes that index tables, which are bound by instructions as much as by memory."""
TRIED_TABLE_PAIRS: tuple[Launch, ...] = (
    (8, 2, 2, 2),
    (4, 2, 4, 2),
    (4, 4, 2, 2),
    (4, 2, 2, 4),
    (8, 1, 2, 4),
)
"""The same where two units are a block."""
_TRIED = {
    "int4": TRIED_INT4,
    "codebook4": TRIED_TABLES,
    "nested4": TRIED_TABLE_PAIRS,
    "lut4": TRIED_TABLES,
    "lut3": TRIED_TABLE_PAIRS,
}
SHARED_BYTES = 96 * 1024
"""What a program may take of a multiprocessor's shared memory, on cards with 164 KiB and more."""
SMALL_SHARED_BYTES = 46 * 1024
"""The same on consumer cards, with 100 KiB."""
SMALL_SHARED_SMS = (86, 89, 120)
MOST_SHARED_BYTES = 163 * 1024
"""What one program can have at all; more on newer data-centre cards."""
SMALL_MOST_SHARED_BYTES = 99 * 1024
SCRATCH_BYTES = 32
"""What the compiler adds for its own reductions."""


@dataclass(frozen=True, slots=True)
class _Block:
    """What a warp takes in one go."""

    columns: int
    bytes: int
    """Words and what stands beside them."""


_BLOCKS = {
    ("int4", 128): _Block(128, 1024 + 64),
    ("int4", 64): _Block(64, 512 + 64),
    ("int4", 32): _Block(64, 512 + 128),
    ("int8", 0): _Block(64, 1024),
    ("fp8", 0): _Block(64, 1024),
    ("dense", 0): _Block(32, 1024),
    ("codebook4", 0): _Block(64, 512 + 64),
    ("nested4", 0): _Block(128, 1024),
    ("lut4", 0): _Block(64, 512),
    ("lut3", 0): _Block(128, 512 + 256),
}
FORMS = tuple(_BLOCKS)
"""Codes with their group sizes."""
_TABLE_BYTES = {"lut4": 512, "lut3": 256}
"""Tables of a tile's rows."""


def block_columns(code: str, group_size: int) -> int:
    """Columns that a warp takes in one go."""
    return _BLOCKS[code, group_size].columns


def stage_bytes(code: str, group_size: int, warps: int, blocks: int) -> int:
    """Shared memory of one stage, tables apart."""
    return warps * blocks * _BLOCKS[code, group_size].bytes


def _steps(shape: LinearShape, tile: Tile) -> int:
    """Steps of a tile of rows."""
    columns = block_columns(shape.code, shape.group_size) * tile.warps * tile.blocks
    return -(-shape.columns // columns)


def program_bytes(shape: LinearShape, tile: Tile) -> int:
    """Shared memory of a program: stages, sums of one token's blocks, tables, two finished tiles."""
    stages = tile.stages * stage_bytes(shape.code, shape.group_size, tile.warps, tile.blocks)
    steps = _steps(shape, tile)
    sums = 0
    if shape.code == "int4" and shape.one_row:
        blocks = (1 << (steps - 1).bit_length()) * tile.warps * tile.blocks
        sums = blocks * 32 * (2 if shape.group_size == 32 else 1)
    tables = table_count(steps, tile.stages) * _TABLE_BYTES.get(shape.code, 0)
    return stages + sums + tables + 1024 * tile.warps + SCRATCH_BYTES


def table_count(steps: int, stages: int) -> int:
    """Tiles whose own tables are read or on their way at once, as a power of two."""
    return 1 << (-(-(stages + steps - 1) // steps) - 1).bit_length()


_installed: dict[tuple[int, LinearShape], Tile] = {}
_on_trial: ContextVar[Mapping[LinearShape, Tile] | None] = ContextVar(
    "tiles_on_trial", default=None
)


def install(sm: int, tiles: Mapping[LinearShape, Tile]) -> None:
    """From here on these are taken on cards of that SM version: they were measured on one."""
    _installed.update({(sm, shape): tile for shape, tile in tiles.items()})


def forget_installed() -> None:
    """As if nothing had been measured."""
    _installed.clear()


@contextmanager
def on_trial(tiles: Mapping[LinearShape, Tile]) -> Iterator[None]:
    """Launches of this thread take these tiles before all others."""
    token = _on_trial.set(tiles)
    try:
        yield
    finally:
        _on_trial.reset(token)


def tile_for(shape: LinearShape, sm: int) -> Tile:
    """The tile of a shape on a card of that SM version."""
    tiles = _on_trial.get()
    if tiles is not None and shape in tiles:
        return tiles[shape]
    return _installed.get((sm, shape)) or _known_before(shape, sm)


def origin(shape: LinearShape, sm: int) -> Origin:
    """Where tile_for's answer comes from."""
    if (sm, shape) in _installed:
        return "measured"
    return "rule" if shipped(shape, sm) is None else "shipped"


@functools.cache
def _known_before(shape: LinearShape, sm: int) -> Tile:
    return shipped(shape, sm) or candidates(shape, sm)[0]


def shipped(shape: LinearShape, sm: int) -> Tile | None:
    """The tile out of the package's own table."""
    known = TUNED.get((sm, shape.code, shape.group_size, shape.one_row), {})
    measured = known.get((shape.outputs, shape.columns))
    if measured is None:
        return None
    return Tile(warps=measured[0], blocks=measured[1], programs=measured[2], stages=measured[3])


def candidates(shape: LinearShape, sm: int) -> tuple[Tile, ...]:
    """Tiles worth timing, likeliest first: what did well on other shapes and fits the card."""
    blocks_of_k = -(-shape.columns // block_columns(shape.code, shape.group_size))
    small = sm in SMALL_SHARED_SMS
    limit = SMALL_SHARED_BYTES if small else SHARED_BYTES
    most = SMALL_MOST_SHARED_BYTES if small else MOST_SHARED_BYTES
    found: list[Tile] = []
    tried = _TRIED.get(shape.code, TRIED)
    for warps, blocks, programs, stages in tried:
        while blocks > 1 and warps * blocks >= 2 * blocks_of_k:
            blocks //= 2
        while warps > 1 and warps * blocks >= 2 * blocks_of_k:
            warps //= 2
        size = stage_bytes(shape.code, shape.group_size, warps, blocks)
        while stages > 2 and size * stages > limit:
            stages //= 2
        tile = Tile(warps=warps, blocks=blocks, programs=programs, stages=stages)
        fits = size * stages <= limit and program_bytes(shape, tile) <= most
        if fits and tile not in found:
            found.append(tile)
    return tuple(found)
