"""Charts of block and braille characters: stacked columns, and a curve with its peaks.

Owns drawing a chart into rows of a given size; told apart without colour by pattern. A chart is
drawn once when it changes, rows are painted from what was drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.content import Content
from textual.style import Style

from quantchat.tui.markup.palette import Palette
from quantchat.tui.widgets.axes import round_top

FILLS = "█▓▒░▌▚"
"""Patterns of a column's parts, by kind."""
LOWER = " ▁▂▃▄▅▆▇█"
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Braille dots by row and column of a cell."""
WIDEST_COLUMN = 5
LEAST_ROWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column from the bottom up; no parts where nothing was measured."""

    parts: tuple[tuple[int, float], ...]
    """Kind and size."""
    mark: str
    """Below it, where there is room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A chart of columns, one of them chosen."""

    title: str
    legend: tuple[tuple[int, str], ...]
    columns: tuple[Column, ...]
    chosen: int
    label: Callable[[float], str]
    nothing: str
    """Said where nothing was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A chart of a mean and of maxima over equal steps."""

    title: str
    legend: tuple[tuple[int, str], ...]
    mean: tuple[float, ...]
    peaks: tuple[float, ...]
    first: str
    last: str
    """What the ends of the horizontal axis are."""
    label: Callable[[float], str]
    nothing: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart's rows, and where its columns lie."""

    lines: tuple[Content, ...]
    left: int = 0
    """Cells in front of the first column."""
    pitch: int = 1
    first: int = 0
    """The first column that is shown."""
    count: int = 0

    def column_at(self, x: int) -> int | None:
        """The column at a cell, if one is there."""
        at = (x - self.left) // self.pitch
        return self.first + at if x >= self.left and at < self.count else None


def kind_style(kind: int, palette: Palette) -> Style:
    """The colour of a kind."""
    return (palette.primary, palette.accent, palette.success, palette.warning)[kind % 4]


def draw(chart: Columns | Curve, width: int, height: int, palette: Palette) -> Drawn:
    """The chart in `height` rows of at most `width` cells."""
    head = [
        Content.styled(chart.title, palette.heading).truncate(width, ellipsis=True),
        _legend(chart.legend, palette).truncate(width),
    ]
    rows = height - len(head) - 2
    if rows < LEAST_ROWS or width < 24:
        return Drawn(tuple(head[:height]))
    empty = (
        not any(column.parts for column in chart.columns)
        if isinstance(chart, Columns)
        else not chart.mean
    )
    if empty:
        said = Content.styled(chart.nothing, palette.muted).wrap(width)[: rows + 2]
        return Drawn((*head[:1], Content(""), *said))
    if isinstance(chart, Columns):
        return _columns(chart, head, width, rows, palette)
    return Drawn((*head, *_curve(chart, width, rows, palette)))


def _legend(legend: tuple[tuple[int, str], ...], palette: Palette) -> Content:
    line = Content("")
    for kind, name in legend:
        mark = Content.styled(f"{FILLS[kind % len(FILLS)]} ", kind_style(kind, palette))
        line = Content.assemble(line, mark, Content.styled(f"{name}  ", palette.muted))
    return line


def _columns(chart: Columns, head: list[Content], width: int, rows: int, palette: Palette) -> Drawn:
    top = round_top(max(sum(size for _, size in column.parts) for column in chart.columns))
    labels = _labels(chart.label, top, rows)
    left = len(labels[0]) + 1
    room = width - left
    total = len(chart.columns)
    pitch = max(1, min(WIDEST_COLUMN + 1, room // total))
    wide = max(1, pitch - 1)
    count = min(total, room // pitch)
    first = max(0, min(chart.chosen - count // 2, total - count))
    shown = chart.columns[first : first + count]
    cells = [_stack(column, top, rows) for column in shown]
    gap = " " * (pitch - wide)
    lines = []
    for row in range(rows):
        runs: list[tuple[str, int]] = []
        for stack in cells:
            glyph, kind = stack[row]
            text = glyph * wide + gap
            if runs and (glyph == " " or runs[-1][1] == kind):
                runs[-1] = (runs[-1][0] + text, runs[-1][1])
            else:
                runs.append((text, kind))
        pieces = [Content.styled(text, kind_style(kind, palette)) for text, kind in runs]
        lines.append(Content.assemble(_axis(labels[row], palette), *pieces))
    foot = _foot(left, pitch * count, palette)
    marks = _marks(shown, chart.chosen - first, pitch, wide, palette)
    lines += [foot, Content.assemble(" " * left, marks)]
    return Drawn((*head, *lines), left, pitch, first, count)


def _stack(column: Column, top: float, rows: int) -> list[tuple[str, int]]:
    """Glyph and kind of a column's cells, from the top row down."""
    bounds: list[tuple[float, int]] = []
    reached = 0.0
    for kind, size in column.parts:
        reached += size
        bounds.append((reached / top * rows, kind))
    height = bounds[-1][0] if bounds else 0.0
    eighths = round(height * 8)
    if height > 0:
        eighths = max(1, eighths)
    cells = []
    for row in range(rows):
        low = rows - 1 - row
        filled = max(0, min(8, eighths - 8 * low))
        middle = low + min(1.0, max(0.0, height - low)) / 2
        kind = next((kind for bound, kind in bounds if bound >= middle), 0)
        cells.append((FILLS[kind % len(FILLS)] if filled == 8 else LOWER[filled], kind))
    return cells


def _marks(
    shown: tuple[Column, ...], chosen: int, pitch: int, wide: int, palette: Palette
) -> Content:
    """Marks below the columns where they do not touch; that of the chosen one always, and whole."""
    width = pitch * len(shown)
    cells = [" "] * (width + 8)
    center = (wide - 1) // 2

    def place(at: int, text: str) -> tuple[int, int]:
        start = max(0, min(at * pitch + center - (len(text) - 1) // 2, width - len(text)))
        return start, start + len(text)

    picked = (0, 0)
    taken = -1
    if 0 <= chosen < len(shown):
        mark = f"▲{shown[chosen].mark}"
        picked = place(chosen, mark)
        cells[slice(*picked)] = mark
    for at, column in enumerate(shown):
        start, end = place(at, column.mark)
        if start > taken and (end < picked[0] or start > picked[1]):
            cells[start:end] = column.mark
            taken = end
    text = "".join(cells).rstrip()
    line = Content.styled(text, palette.muted)
    return line.stylize(palette.accent, picked[0], picked[1]) if picked[1] else line


def _curve(chart: Curve, width: int, rows: int, palette: Palette) -> list[Content]:
    top = round_top(max(*chart.peaks, *chart.mean))
    labels = _labels(chart.label, top, rows)
    left = len(labels[0]) + 1
    room = width - left
    means, peaks = _canvas(room, rows), _canvas(room, rows)
    dots_x, dots_y = 2 * room, 4 * rows

    def place(at: int, value: float) -> tuple[int, int]:
        x = round(at * (dots_x - 1) / max(1, len(chart.mean) - 1))
        return x, round((1 - min(1.0, value / top)) * (dots_y - 1))

    before: tuple[int, int] | None = None
    for at, (mean, peak) in enumerate(zip(chart.mean, chart.peaks, strict=True)):
        here = place(at, mean)
        for x, y in _line(before or here, here):
            _dot(means, x, y)
        _dot(peaks, *place(at, peak))
        before = here
    lines = []
    for row in range(rows):
        pieces = [_axis(labels[row], palette)]
        runs: list[tuple[str, bool]] = []
        for mean_dots, peak_dots in zip(means[row], peaks[row], strict=True):
            dots = mean_dots | peak_dots
            text, peak_alone = chr(0x2800 + dots) if dots else " ", bool(dots and not mean_dots)
            if runs and runs[-1][1] == peak_alone:
                runs[-1] = (runs[-1][0] + text, peak_alone)
            else:
                runs.append((text, peak_alone))
        pieces += [
            Content.styled(text, palette.warning if peak_alone else palette.primary)
            for text, peak_alone in runs
        ]
        lines.append(Content.assemble(*pieces))
    foot = _foot(left, room, palette)
    between = max(1, room - len(chart.first) - len(chart.last))
    ends = f"{' ' * left}{chart.first}{' ' * between}{chart.last}"
    return [*lines, foot, Content.styled(ends, palette.muted)]


def _canvas(cells: int, rows: int) -> list[list[int]]:
    return [[0] * cells for _ in range(rows)]


def _dot(canvas: list[list[int]], x: int, y: int) -> None:
    canvas[y // 4][x // 2] |= DOTS[y % 4][x % 2]


def _line(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """Dots from one to the other, both included."""
    (x0, y0), (x1, y1) = start, end
    steps = max(abs(x1 - x0), abs(y1 - y0), 1)
    return [
        (x0 + round((x1 - x0) * at / steps), y0 + round((y1 - y0) * at / steps))
        for at in range(steps + 1)
    ]


def _labels(label: Callable[[float], str], top: float, rows: int) -> list[str]:
    """One for each row: the top, the middle and nothing else; the foot is zero."""
    said = {0: label(top)}
    if rows >= 6 and rows % 2 == 0:
        said[rows // 2] = label(top / 2)
    width = max(len(text) for text in said.values())
    return [said.get(row, "").rjust(width) for row in range(rows)]


def _foot(left: int, cells: int, palette: Palette) -> Content:
    zero = Content.styled("0".rjust(left - 1), palette.muted)
    return Content.assemble(zero, Content.styled("└" + "─" * cells, palette.faint))


def _axis(label: str, palette: Palette) -> Content:
    tick = "┤" if label.strip() else "│"
    return Content.assemble(
        Content.styled(label, palette.muted), Content.styled(tick, palette.faint)
    )
