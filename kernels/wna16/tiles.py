"""Which tile the plain W4A16 GEMV runs with, by rows and shape."""

from __future__ import annotations

from dataclasses import dataclass

MAX_ROWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Work of one program and of one step of its loop."""

    outputs: int
    """Output columns of one program."""
    groups: int
    """Groups along K of one step; a power of two."""
    warps: int


def tile_for(rows: int, outputs: int, columns: int, group_size: int, *, bf16: bool) -> Tile:
    """The tile for x [rows, columns] and weights [outputs, columns].

    Measured with the linears of Llama-3.1-8B.
    """
    narrow = outputs <= 8192
    if rows == 1:
        per_program, warps = 1, 2 if narrow and columns > 8192 else 1
        step_words = 512 if outputs > 65536 else 256 if bf16 or columns > 4096 else 128
    elif rows == 2:
        step_words, per_program, warps = 128, 2, 1
    elif rows <= 4:
        step_words, per_program, warps = 128, 8, 2
    else:
        step_words, per_program, warps = 64, 4, 1
    groups = max(1, step_words * 8 // group_size)
    while groups > 1 and groups // 2 >= columns // group_size:
        groups //= 2
    return Tile(outputs=per_program, groups=groups, warps=warps)
