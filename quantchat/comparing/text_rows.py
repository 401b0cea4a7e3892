"""Tokens laid out in rows of cells: wrapped at blanks, wide characters counted as two.

Owns the breaking of lines. What a token looks like is told by its tag, which is only carried.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from rich.cells import cell_len

from quantchat.comparing.markdown import visible

TAB_CELLS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Text of one tag within a row."""

    cell: int
    """Where it begins."""
    cells: int
    text: str
    tag: int


TextRow: TypeAlias = tuple[Run, ...]


def wrapped(pieces: Iterable[tuple[str, int]], width_cells: int) -> list[TextRow]:
    """Rows of pieces and their tags; a word longer than a row is broken."""
    assert width_cells > 1
    rows: list[list[tuple[str, int]]] = [[]]
    used = 0
    word: list[tuple[str, int]] = []
    word_cells = 0

    def place() -> None:
        nonlocal used, word_cells
        if used and used + word_cells > width_cells:
            rows.append([])
            used = 0
        for each in word:
            cells = cell_len(each[0])
            if used + cells > width_cells:
                rows.append([])
                used = 0
            rows[-1].append(each)
            used += cells
        word.clear()
        word_cells = 0

    for text, tag in pieces:
        for character in visible(text).replace("\t", " " * TAB_CELLS):
            if character == "\n":
                place()
                rows.append([])
                used = 0
            elif character == " ":
                place()
                # A blank at the edge ends the row instead of beginning the next.
                if used < width_cells:
                    rows[-1].append((character, tag))
                    used += 1
            else:
                word.append((character, tag))
                word_cells += cell_len(character)
    place()
    return [_runs(row) for row in rows]


def _runs(row: list[tuple[str, int]]) -> TextRow:
    runs: list[Run] = []
    begin = at = 0
    while at < len(row):
        end = at
        while end < len(row) and row[end][1] == row[at][1]:
            end += 1
        text = "".join(character for character, _ in row[at:end])
        cells = cell_len(text)
        runs.append(Run(cell=begin, cells=cells, text=text, tag=row[at][1]))
        begin, at = begin + cells, end
    return tuple(runs)
