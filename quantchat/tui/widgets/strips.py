"""Rows of a widget that paints its own lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Self

from textual.color import Color
from textual.content import Content
from textual.filter import LineFilter
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget


class WholeStrip(Strip):
    """A row that nothing overlaps is cut where it ends; Textual's would then hold itself for good.

    Every drawn row was left to the collector, fifty thousand objects after a few hundred pictures.
    """

    def divide(self, cuts: Iterable[int]) -> Sequence[Strip]:
        """Parts up to each of the cuts."""
        cuts = [cut for cut in cuts if cut <= self.cell_length]
        return [self] if cuts == [self.cell_length] else super().divide(cuts)

    def apply_filter(self, filter: LineFilter, background: Color) -> WholeStrip:  # noqa: A002
        """The row as the filter leaves it, made once."""
        known = self._filter_cache.get((filter, background))
        if not isinstance(known, WholeStrip):
            known = WholeStrip(filter.apply([*self], background), self.cell_length)
            self._filter_cache[(filter, background)] = known
        return known

    @classmethod
    def of(cls, strip: Strip) -> Self:
        """A row with the segments of another."""
        return cls([*strip], strip.cell_length)


def rows_as_drawn(
    widget: Widget, crop: Region, row: Callable[[int], Strip], base: Style
) -> list[Strip]:
    """For `render_lines` of a widget without a border, past Textual's style cache.

    That cache took four fifths of the time of a redraw, which decode on the CPU pays for. Above
    the first row stands the widget's padding.
    """
    width, height = widget.size
    above = widget.styles.padding.top
    blank = WholeStrip.blank(width, base.rich_style)
    strips = [row(y - above) if 0 <= y - above < height else blank for y in crop.line_range]
    background = widget.background_colors[1]
    for each in widget.get_line_filters():
        strips = [strip.apply_filter(each, background) for strip in strips]
    if crop.column_span == (0, width):
        return strips
    return [strip.crop(*crop.column_span) for strip in strips]


def with_offsets(strip: Strip, margin: int, row: int) -> Strip:
    """The strip with selection offsets counted from the start of its text."""
    if not margin:
        return strip.apply_offsets(0, row)
    left, right = strip.divide([margin, strip.cell_length])
    return Strip.join([left, right.apply_offsets(0, row)])


def middle_strip(text: Content, y: int, size: Size, base: Style) -> WholeStrip:
    """Row `y` of a text that stands in the middle of a widget."""
    lines = text.split(allow_blank=True) if text else []
    at = y - max(0, (size.height - len(lines)) // 2)
    line = (lines[at] if 0 <= at < len(lines) else Content("")).truncate(size.width)
    widest = max((each.cell_length for each in lines), default=0)
    content = Content(" " * max(0, (size.width - widest) // 2)) + line
    strip = Strip(content.render_segments(base))
    return WholeStrip.of(strip.adjust_cell_length(size.width, base.rich_style))
