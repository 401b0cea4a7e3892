"""Turns as rows of a scrolling widget: painting, selecting, what stands there without turns.

Owns strips and their cache. Which rows there are belongs to `turn_stack`, scrolling to `transcript`.
"""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Region
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from quantchat.tui.keymap import Keyed
from quantchat.tui.markup.palette import Palette
from quantchat.tui.widgets.strips import WholeStrip, middle_strip, rows_as_drawn, with_offsets
from quantchat.tui.widgets.turn import Turn
from quantchat.tui.widgets.turn_stack import TurnStack

WIDEST_CELLS = 110
"""Lines longer than this read badly."""
MARK = "┃"
"""Beside the chosen turn."""


class TurnRows(Keyed, ScrollView):
    """Paints the rows of a stack of turns."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.stack = TurnStack()
        self._strips: dict[int, Strip] = {}
        self._palette: Palette | None = None
        self._width = 0
        self._empty = Content("")

    @property
    def turns(self) -> list[Turn]:
        """All turns, drawn or not."""
        return self.stack.turns

    def set_empty(self, text: Content) -> None:
        """What stands in the middle while there are no turns."""
        if text.is_same(self._empty):
            return
        self._empty = text
        if not self.turns:
            self._strips.clear()
            self.refresh()

    def text_on_screen(self) -> str:
        """What the drawn turns say, for tests and exports."""
        lines = (line for drawn in self.stack.drawn for line in drawn.lines)
        return "\n".join(line.plain.rstrip() for line in lines)

    def render_lines(self, crop: Region) -> list[Strip]:
        if self._palette is None or self.size.width != self.region.width:
            return super().render_lines(crop)
        return rows_as_drawn(self, crop, self.render_line, self._palette.base)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        palette = self._palette
        if palette is None:
            return Strip.blank(width)
        base = palette.base
        if not self.turns:
            return middle_strip(self._empty, y, self.size, base)
        row = self.scroll_offset.y + y
        strip = self._strips.get(row)
        selection = self.text_selection
        if strip is None or selection is not None:
            line = self.stack.line(row)
            if selection is not None and (span := selection.get_span(row)) is not None:
                start, end = span
                until = len(line.plain) if end == -1 else end
                line = line.stylize(palette.selected, start, until)
            margin = self._margin(width)
            left = Content(" " * margin)
            if self.stack.marked(row):
                left = Content.assemble(" " * (margin - 1), (MARK, palette.accent))
            strip = Strip((left + line).render_segments(base))
            strip = strip.adjust_cell_length(width, base.rich_style)
            strip = WholeStrip.of(with_offsets(strip, margin, row))
            if selection is None:
                self._strips[row] = strip
        return strip

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        return self.stack.marked_text(selection), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self._strips.clear()
        self.refresh()

    def _text_width(self) -> int:
        return max(20, min(WIDEST_CELLS, self.size.width - 4))

    def _margin(self, width: int) -> int:
        return max(1, (width - self._width) // 2)
