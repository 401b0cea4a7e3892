"""Rows of a widget that paints its own lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.content import Content
from textual.geometry import Size
from textual.strip import Strip
from textual.style import Style


class WholeStrip(Strip):
    """A row that nothing overlaps is cut where it ends; Textual's would then hold itself for good.

    Every drawn row was left to the collector, fifty thousand objects after a few hundred pictures.
    """

    def divide(self, cuts: Iterable[int]) -> Sequence[Strip]:
        """Parts up to each of the cuts."""
        cuts = [cut for cut in cuts if cut <= self.cell_length]
        return [self] if cuts == [self.cell_length] else super().divide(cuts)


def with_offsets(strip: Strip, margin: int, row: int) -> Strip:
    """The strip with selection offsets counted from the start of its text."""
    if not margin:
        return strip.apply_offsets(0, row)
    left, right = strip.divide([margin, strip.cell_length])
    return Strip.join([left, right.apply_offsets(0, row)])


def middle_strip(text: Content, y: int, size: Size, base: Style) -> Strip:
    """Row `y` of a text that stands in the middle of a widget."""
    lines = text.split(allow_blank=True) if text else []
    at = y - max(0, (size.height - len(lines)) // 2)
    line = (lines[at] if 0 <= at < len(lines) else Content("")).truncate(size.width)
    widest = max((each.cell_length for each in lines), default=0)
    content = Content(" " * max(0, (size.width - widest) // 2)) + line
    strip = Strip(content.render_segments(base))
    return strip.adjust_cell_length(size.width, base.rich_style)
