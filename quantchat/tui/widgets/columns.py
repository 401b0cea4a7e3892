"""A line of a list in columns: the first takes what the others leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.style import Style

GAP = 1
LEAST_CELLS = 26
"""Of the first column; columns at the end give way to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column after the first."""

    title: str
    width: int
    right: bool = True
    """Where its text stands."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and its style; text of others is given as it may be shown."""

    text: str
    style: Style | None = None


def shown(columns: Sequence[Column], width: int) -> Sequence[Column]:
    """As many of the columns as there is room for."""
    room = width - LEAST_CELLS
    for count, column in enumerate(columns):
        room -= column.width + GAP
        if room < 0:
            return columns[:count]
    return columns


def line(
    first: Content, cells: Sequence[Cell], columns: Sequence[Column], width: int, *, plain: bool
) -> Content:
    """One row; `plain` leaves the styles of the cells out."""
    there = shown(columns, width)
    room = width - sum(column.width + GAP for column in there)
    parts = [first.truncate(max(1, room), ellipsis=True, pad=True)]
    for cell, column in zip(cells, there, strict=False):
        text = Content(cell.text).truncate(column.width, ellipsis=True)
        blank = " " * (column.width - text.cell_length)
        if cell.style is not None and not plain:
            text = Content.styled(text.plain, cell.style)
        parts += [Content(" " * GAP), Content(blank) + text if column.right else text + blank]
    return Content.assemble(*parts)
