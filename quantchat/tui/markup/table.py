"""Tables: columns that share the width, cells that wrap, one rule under the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from textual.content import Content

from quantchat.tui.markup.palette import Palette

GAP_CELLS = 3
Side: TypeAlias = Literal["left", "center", "right"]


def table_lines(
    head: Sequence[Content],
    rows: Sequence[Sequence[Content]],
    width: int,
    palette: Palette,
    *,
    sides: Sequence[Side] = (),
) -> list[Content]:
    """Lines of a table no wider than `width` cells where the columns allow it.

    `sides` says where the text of each column stands; left for those without.
    """
    count = len(head)
    if not count:
        return []
    natural = [
        max([head[at].cell_length, 1, *(row[at].cell_length for row in rows if at < len(row))])
        for at in range(count)
    ]
    widths = share(natural, max(count, width - GAP_CELLS * (count - 1)))
    rest: list[Side] = ["left"] * count
    stand = [*sides, *rest][:count]
    lines = _row(head, widths, stand, palette)
    rule = "─┼─".join("─" * cells for cells in widths)
    lines.append(Content.styled(rule, palette.faint))
    for row in rows:
        lines.extend(_row(row, widths, stand, palette))
    return lines


def share(natural: Sequence[int], available: int) -> list[int]:
    """Column widths: narrow columns keep theirs, wide ones are cut to one common width."""
    if sum(natural) <= available:
        return list(natural)
    low, high = 1, max(natural)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(cells, middle) for cells in natural) <= available:
            low = middle
        else:
            high = middle - 1
    return [min(cells, low) for cells in natural]


def _row(
    cells: Sequence[Content], widths: Sequence[int], sides: Sequence[Side], palette: Palette
) -> list[Content]:
    columns = [
        (cells[at].wrap(cells_wide) if at < len(cells) and cells[at] else [Content("")])
        for at, cells_wide in enumerate(widths)
    ]
    bar = Content.styled(" │ ", palette.faint)
    lines = []
    for y in range(max(len(column) for column in columns)):
        parts = []
        for column, cells_wide, side in zip(columns, widths, sides, strict=True):
            part = column[y] if y < len(column) else Content("")
            free = max(0, cells_wide - part.cell_length)
            before = {"left": 0, "center": free // 2, "right": free}[side]
            parts.append(part.pad(before, free - before))
        lines.append(bar.join(parts))
    return lines
