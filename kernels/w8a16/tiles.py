"""Which tile a W8A16 GEMV runs with, by rows, shape and card; tables come from measurements."""

from __future__ import annotations

from dataclasses import dataclass

MAX_ROWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Work of one program and of one step of its loop."""

    outputs: int
    """Output columns of one program."""
    words: int
    """Words of four codes along K of one step; a power of two."""
    warps: int


def tile_for(rows: int, outputs: int, columns: int, sm: int) -> Tile:
    """The tile for x [rows, columns] and weights [outputs, columns] on a card of that SM version."""
    lane_words = 16 if rows == 1 else 8 if rows == 2 else 4
    per_program = 2 if rows <= 2 else 4
    words = lane_words * 32 // per_program
    while words > 32 and words // 2 >= columns // 4:
        words //= 2
    return Tile(outputs=per_program, words=words, warps=1)
