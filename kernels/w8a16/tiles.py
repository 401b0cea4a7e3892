"""Which tile the plain W8A16 GEMV runs with, by rows and columns."""

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


def tile_for(rows: int, columns: int) -> Tile:
    """The tile for x [rows, columns]; measured with the linears of Llama-3.1-8B."""
    if rows == 1:
        words, per_program, warps = 256 if columns > 8192 else 512, 1, 1
    elif rows == 2:
        words, per_program, warps = 128, 2, 1
    else:
        words, per_program, warps = 128, 4, 2
    while words > 32 and words // 2 >= columns // 4:
        words //= 2
    return Tile(outputs=per_program, words=words, warps=warps)
