"""Which tile a W4A16 GEMV runs with, by rows, shape and card; tables come from measurements."""

from __future__ import annotations

from dataclasses import dataclass

from .._launch import LOWEST_DOT_SM

MAX_ROWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Work of one program and of one step of its loop."""

    outputs: int
    """Output columns of one program."""
    groups: int
    """Groups along K of one step; a power of two."""
    warps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DotTile:
    """Work of one program of the tensor-core kernel and of one step of its loop."""

    outputs: int
    words: int
    """Words along K of one step; a power of two, 16 at least."""
    warps: int
    stages: int


def tile_for(rows: int, outputs: int, columns: int, group_size: int, sm: int) -> Tile | DotTile:
    """The tile for x [rows, columns] and weights [outputs, columns] on a card of that SM version."""
    words_per_group = group_size // 8
    total_groups = columns // group_size
    if rows > 2 and sm >= LOWEST_DOT_SM:
        return DotTile(outputs=32, words=64, warps=2, stages=1)
    lane_words = 16 if rows == 1 else 8 if rows == 2 else 4
    per_program = 1 if rows == 1 else 2 if rows == 2 else 4
    groups = max(1, lane_words * 32 // (per_program * words_per_group))
    while groups > 1 and groups // 2 >= total_groups:
        groups //= 2
    return Tile(outputs=per_program, groups=groups, warps=1)
