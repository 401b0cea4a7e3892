"""Answers as the tokens they were written in, each with its own ink, in one scrolling widget.

Draws only the rows on the screen, and of those only what changed. Owns scrolling and the place of
the cursor; which ink a token takes is said by a painter, rows are `token_flow`'s.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from textual.content import Content
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget

from quantchat.tui.markup.palette import Palette, palette_from
from quantchat.tui.widgets.strips import WholeStrip, rows_as_drawn
from quantchat.tui.widgets.token_blocks import Drawer, Flows, Painter, Tokens, Words
from quantchat.tui.widgets.token_flow import TokenFlow
from quantchat.tui.widgets.token_inks import Inks, inks_from
from quantchat.tui.widgets.turn import ACTION

MARGIN_CELLS = 2
STRIPS_KEPT = 1000
WIDEST_CELLS = 110
COARSE = ("standard", "windows", None)
"""Colour systems of Rich that cannot blend."""


class TokenView(ScrollView, can_focus=False):
    """Blocks of words and of tokens; the last block of tokens is the one that grows."""

    class TokenClicked(Message):
        """A token of the last answer was clicked."""

        def __init__(self, view: TokenView, index: int) -> None:
            super().__init__()
            self.view = view
            self.index = index

        @property
        def control(self) -> TokenView:
            """The view it stands in."""
            return self.view

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._blocks: list[Words | Tokens] = []
        self._flows = Flows()
        self._starts: list[int] = []
        self._strips: dict[int, Strip] = {}
        self._palette: Palette | None = None
        self._inks: Inks | None = None
        self._last: Tokens | None = None
        self._cursor: int | None = None
        self._near = True
        self._moving = False
        self._width = 0
        self.follow = True

    def clear(self) -> None:
        """Take everything away."""
        self._blocks, self._last, self._cursor = [], None, None
        self._flows.clear()
        self.follow = True
        self._laid_out(0, 0)

    def drop(self, count: int) -> None:
        """Take the first blocks away."""
        del self._blocks[:count]
        if self._last is not None and self._last not in self._blocks:
            self._last = None
        self._strips.clear()
        self._laid_out(0, 0)

    def add_words(self, draw: Drawer) -> None:
        """Lines below what is there."""
        words = Words(draw)
        if self._palette is not None and self._width:
            words.lines = draw(self._width, self._palette)
        self._blocks.append(words)
        self._laid_out(len(self._blocks) - 1, 0)

    def begin(self, painter: Painter, pieces: Sequence[str] = ()) -> None:
        """An answer below what is there; it is the one that grows."""
        self._last = Tokens(painter, TokenFlow(self._width or WIDEST_CELLS))
        self._cursor = None
        self._blocks.append(self._last)
        self.append(pieces)

    def append(self, pieces: Sequence[str]) -> None:
        """More tokens of the last answer."""
        tokens = self._last
        if tokens is None:
            return
        flow = self._flows.of(tokens)
        tokens.add(pieces)
        self._laid_out(self._blocks.index(tokens), flow.append(pieces))

    def replace_last(self, pieces: Sequence[str]) -> None:
        """Other tokens in place of the last answer's."""
        tokens = self._last
        if tokens is None:
            return
        tokens.pieces = list(pieces)
        self._flows.lay_out(tokens, self._width or WIDEST_CELLS)
        self._laid_out(self._blocks.index(tokens), 0)

    def settle(self, pieces: list[str]) -> None:
        """The last answer is whole; lines around it are drawn anew."""
        tokens = self._last
        if tokens is None:
            return
        if tokens.pieces != pieces:
            self.replace_last(pieces)
        tokens.share(pieces)
        self.redraw_words(max(0, self._blocks.index(tokens) - 1))

    def redraw_words(self, first: int = 0) -> None:
        """Draw lines that are not tokens anew, from a block on: they say something else now."""
        if self._palette is None or not self._width:
            return
        for block in self._blocks[first:]:
            if isinstance(block, Words):
                block.lines = block.draw(self._width, self._palette)
        self._laid_out(first, 0)

    def repaint_all(self) -> None:
        """Every token may have another ink."""
        self._strips.clear()
        self.refresh()

    def repaint(self, first: int = 0, end: int | None = None) -> None:
        """Draw tokens of the last answer anew: their inks changed."""
        tokens = self._last
        if tokens is None or not self._starts:
            return
        above = self._starts[self._blocks.index(tokens)]
        until = len(tokens.pieces) if end is None else end
        rows = self._flows.of(tokens).rows_of(max(0, first), until)
        for row in rows:
            self._strips.pop(above + row, None)
        if rows:
            self.refresh_lines(above + rows.start, len(rows))

    def point(self, index: int | None, *, near: bool = True, scroll: bool = True) -> None:
        """Put the cursor on a token of the last answer, or take it away."""
        old, self._cursor, self._near = self._cursor, index, near
        for each in (old, index):
            if each is not None:
                self.repaint(each, each + 1)
        if index is not None and scroll:
            self._show_token(index)

    def text_on_screen(self) -> str:
        """What all rows say, for tests."""
        total = self._starts[-1] + self._blocks[-1].rows if self._blocks else 0
        return "\n".join(self._row(row).plain.rstrip() for row in range(total))

    def restyle(self) -> None:
        """Take the colours of the app's theme."""
        self._palette = palette_from(self.app.theme_variables)
        coarse = self.app.console.color_system in COARSE
        self._inks = inks_from(self._palette, coarse=coarse)
        if self._width:
            self.redraw_words()
        else:
            self._redraw()

    def action_scroll_home(self) -> None:
        """Go to the beginning."""
        self.follow = False
        self.scroll_to(y=0, animate=False)

    def action_scroll_end(self) -> None:
        """Go to the end and follow it."""
        self.follow = True
        self._to_end()

    def on_mount(self) -> None:
        self.restyle()
        self.app.theme_changed_signal.subscribe(self, lambda _: self.restyle())

    def on_unmount(self) -> None:
        # The signal holds its subscribers, and with them the whole screen.
        self.app.theme_changed_signal.unsubscribe(self)

    def on_resize(self, event: Resize) -> None:
        if self._text_width() != self._width:
            self._redraw()
        if self._cursor is not None:
            self._show_token(self._cursor)
        elif self.follow:
            self._to_end()

    async def on_click(self, event: Click) -> None:
        action = event.style.meta.get(ACTION)
        if action:
            event.stop()
            await self.run_action(action)
            return
        tokens = self._last
        if tokens is None or not self._starts or self.text_selection is not None:
            return
        offset = event.get_content_offset(self)
        if offset is None:
            return
        row = self.scroll_offset.y + offset.y - self._starts[self._blocks.index(tokens)]
        flow = self._flows.of(tokens)
        index = flow.token_at(row, offset.x - MARGIN_CELLS) if row >= 0 else None
        if index is not None:
            self.post_message(self.TokenClicked(self, index))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._moving:
            self.follow = new_value >= self.max_scroll_y - 0.5

    def render_lines(self, crop: Region) -> list[Strip]:
        if self._palette is None or self.size.width != self.region.width:
            return super().render_lines(crop)
        return rows_as_drawn(self, crop, self.render_line, self._palette.base)

    def render_line(self, y: int) -> Strip:
        width, palette = self.size.width, self._palette
        if palette is None:
            return Strip.blank(width)
        row = self.scroll_offset.y + y
        strip = self._strips.get(row)
        selection = self.text_selection
        if strip is None or selection is not None:
            line = self._row(row)
            span = None if selection is None else selection.get_span(row)
            if span is not None:
                start, end = span
                until = len(line.plain) if end == -1 else end
                line = line.stylize(palette.selected, start, until)
            strip = Strip(line.render_segments(palette.base)).apply_offsets(0, row)
            margin = Strip.blank(MARGIN_CELLS, palette.base.rich_style)
            strip = Strip.join([margin, strip])
            strip = WholeStrip.of(strip.adjust_cell_length(width, palette.base.rich_style))
            if selection is None:
                self._strips[row] = strip
        return strip

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        return selection.extract(self.text_on_screen()), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self._strips.clear()
        self.refresh()

    def _text_width(self) -> int:
        return max(12, min(WIDEST_CELLS, self.size.width - MARGIN_CELLS - 1))

    def _row(self, row: int) -> Content:
        at = bisect_right(self._starts, row) - 1
        if at < 0:
            return Content("")
        block, inner = self._blocks[at], row - self._starts[at]
        if isinstance(block, Words):
            return block.lines[inner] if inner < len(block.lines) else Content("")
        return self._token_row(block, inner)

    def _token_row(self, tokens: Tokens, row: int) -> Content:
        inks = self._inks
        flow = self._flows.of(tokens)
        if inks is None or row >= flow.rows:
            return Content("")
        parts: list[Content | str] = []
        for token, text in flow.parts(row):
            ink = self._ink(tokens, token, inks)
            parts.append(text if ink is None else Content.styled(text, ink))
        breaker = flow.breaker(row)
        if breaker is not None and (ink := self._ink(tokens, breaker, inks)) is not None:
            parts.append(Content.styled("↵", ink))
        line = Content.assemble(*parts)
        kind = flow.kind(row)
        if kind == "text" or self._palette is None:
            return line
        palette = self._palette
        return line.stylize_before(palette.heading if kind == "heading" else palette.string)

    def _ink(self, tokens: Tokens, token: int, inks: Inks) -> Style | None:
        if tokens is self._last and token == self._cursor:
            return inks.cursor if self._near else inks.far_cursor
        return tokens.painter(token, inks)

    def _redraw(self) -> None:
        if self._palette is None or not self.size.width:
            return
        self._width = self._text_width()
        for block in self._blocks:
            if isinstance(block, Words):
                block.lines = block.draw(self._width, self._palette)
            else:
                self._flows.lay_out(block, self._width)
        self._laid_out(0, 0)

    def _laid_out(self, at: int, line: int) -> None:
        """Rows from a line of a block on have changed."""
        if self._palette is not None and not self._width and self.size.width:
            self._redraw()
            return
        heights = [block.rows for block in self._blocks]
        self._starts = list(accumulate(heights, initial=0))[:-1]
        total = sum(heights)
        first = self._starts[at] + line if self._blocks else 0
        if len(self._strips) > STRIPS_KEPT:
            self._strips.clear()
        for row in [row for row in self._strips if row >= first]:
            del self._strips[row]
        if Size(self.size.width, total) != self.virtual_size:
            self._resize_content(Size(self.size.width, total))
            if self.follow:
                self._to_end()
        self.refresh_lines(first, max(self.size.height, total - first))

    def _resize_content(self, size: Size) -> None:
        """Set the virtual size without laying out the screen: only the scrollbar depends on it."""
        self.set_reactive(Widget.virtual_size, size)
        self._scroll_update(size)
        if self.scroll_y > self.max_scroll_y:
            self._to_end()

    def _to_end(self) -> None:
        self._moving = True
        self.scroll_to(y=self.max_scroll_y, animate=False)
        self._moving = False

    def _show_token(self, index: int) -> None:
        tokens = self._last
        if tokens is None or not self._starts or not 0 <= index < len(tokens.pieces):
            return
        row = self._starts[self._blocks.index(tokens)] + self._flows.of(tokens).row_of(index)
        top, height = self.scroll_offset.y, max(1, self.size.height - self.styles.padding.height)
        if not top <= row < top + height:
            self.follow = False
            self._moving = True
            self.scroll_to(y=max(0, row - height // 2), animate=False)
            self._moving = False
