"""A line of a list in columns: the first takes what the others leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual.content import Content, Span
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
    head = first.truncate(max(1, room), ellipsis=True, pad=True)
    # One Content for all: lists draw such lines by the screen at every key.
    parts, spans, at = [head.plain], list(head.spans), len(head.plain)
    for cell, column in zip(cells, there, strict=False):
        text, cells_wide = cell.text, cell_len(cell.text)
        if cells_wide > column.width:
            text = Content(text).truncate(column.width, ellipsis=True).plain
            cells_wide = cell_len(text)
        blank = " " * (column.width - cells_wide)
        before = " " * GAP + (blank if column.right else "")
        if cell.style is not None and text and not plain:
            begin = at + len(before)
            spans.append(Span(begin, begin + len(text), cell.style))
        parts += [before, text, "" if column.right else blank]
        at += len(before) + len(text) + len(parts[-1])
    return Content("".join(parts), spans=spans)
