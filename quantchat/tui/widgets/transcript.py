"""The conversation as one scrolling widget that draws only the lines on the screen.

Owns scrolling, following the end, selection and the window of drawn turns. A turn's look belongs
to `turn`. Cost per flush: the lines of the open block plus the rows on the screen, whatever the
length of the conversation.
"""

from __future__ import annotations

from bisect import bisect_right
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
from quantchat.tui.widgets.turn import ACTION, DrawnTurn, Turn

WINDOW_TURNS = 30
"""Turns drawn at first; more are drawn when the user scrolls to the top."""
WIDEST_CELLS = 110
"""Lines longer than this read badly."""


class Transcript(ScrollView, can_focus=True):
    """Turns from top to bottom; `follow` keeps the end in view until the user scrolls up."""

    class FollowChanged(Message):
        """The view began or ceased to follow the end."""

        def __init__(self, following: bool) -> None:
            super().__init__()
            self.following = following

    def __init__(self, *, id: str | None = None, empty: Content | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._turns: list[Turn] = []
        self._drawn: list[DrawnTurn] = []
        self._first = 0
        self._starts: list[int] = []
        self._strips: dict[int, Strip] = {}
        self._palette: Palette | None = None
        self._width = 0
        self._moving = False
        self._empty = empty or Content("")
        self.follow = True

    @property
    def turns(self) -> list[Turn]:
        """All turns, drawn or not."""
        return self._turns

    def set_empty(self, text: Content) -> None:
        """What stands in the middle while there are no turns."""
        if text.is_same(self._empty):
            return
        self._empty = text
        if not self._turns:
            self._strips.clear()
            self.refresh()

    def show(self, turns: list[Turn]) -> None:
        """Replace the conversation and go to its end."""
        self._turns = list(turns)
        self._first = max(0, len(turns) - WINDOW_TURNS)
        self._set_follow(True)
        self._redraw()

    def add(self, turn: Turn, before: int | None = None) -> None:
        """Put a turn at the end, or before the one with that key."""
        found = None if before is None else self._index(before)
        at = len(self._drawn) if found is None else found
        self._turns.insert(self._first + at, turn)
        drawn = DrawnTurn(turn)
        if self._palette is not None and self._width:
            drawn.draw(self._width, self._palette)
        self._drawn.insert(at, drawn)
        self._changed(at, 0)

    def remove_from(self, key: int) -> None:
        """Take the turn with that key and all after it away."""
        at = next((at for at, turn in enumerate(self._turns) if turn.key == key), None)
        if at is not None:
            del self._turns[at:]
            del self._drawn[max(0, at - self._first) :]
            self._first = min(self._first, len(self._turns))
            self._changed(max(0, len(self._drawn) - 1), 0)

    def append(self, key: int, text: str) -> None:
        """Streamed text for a turn."""
        at = self._index(key)
        if at is None:
            return
        drawn = self._drawn[at]
        if self._palette is None:
            drawn.turn.text += text
            return
        if drawn.turn.state != "streaming":
            drawn.turn.state = "streaming"
            drawn.draw(self._width, self._palette)
        self._changed(at, drawn.append(text, self._palette))

    def update(self, turn: Turn) -> None:
        """Draw a turn anew after its fields changed."""
        at = self._index(turn.key)
        if at is not None and self._palette is not None:
            self._drawn[at].turn = turn
            self._turns[self._first + at] = turn
            self._drawn[at].draw(self._width, self._palette)
            self._changed(at, 0)

    def restyle(self) -> None:
        """Take the colours of the app's theme."""
        self._palette = palette_from(self.app.theme_variables)
        self._redraw()

    def text_on_screen(self) -> str:
        """What the drawn turns say, for tests and exports."""
        return "\n".join(line.plain.rstrip() for drawn in self._drawn for line in drawn.lines)

    def action_scroll_end(self) -> None:
        """Go to the end and follow it."""
        self._set_follow(True)
        self._to_end()

    def action_scroll_home(self) -> None:
        """Go to the first turn."""
        self._first = 0
        self._set_follow(False)
        self._redraw()
        self.scroll_to(y=0, animate=False)

    def on_mount(self) -> None:
        self._palette = palette_from(self.app.theme_variables)
        self.app.theme_changed_signal.subscribe(self, lambda _: self.restyle())

    async def on_click(self, event: Click) -> None:
        action = event.style.meta.get(ACTION)
        if action:
            event.stop()
            await self.run_action(action)

    def on_resize(self, event: Resize) -> None:
        width = self._text_width()
        if width != self._width:
            self._redraw()
        elif self.follow:
            self._to_end()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if self._moving:
            return
        self._set_follow(new_value >= self.max_scroll_y - 0.5)
        if new_value < 1 and new_value < old_value and self._first > 0:
            self.call_later(self._draw_earlier)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows as drawn: there is no border for Textual's style cache to add.

        That cache took four fifths of the time of a redraw, which decode on the CPU pays for.
        """
        width, height = self.size
        palette = self._palette
        if palette is None or width != self.region.width:
            return super().render_lines(crop)
        above = self.styles.padding.top
        blank = Strip.blank(width, palette.base.rich_style)
        strips = [
            self.render_line(y - above) if 0 <= y - above < height else blank
            for y in crop.line_range
        ]
        background = self.background_colors[1]
        for each in self.get_line_filters():
            strips = [strip.apply_filter(each, background) for strip in strips]
        if crop.column_span == (0, width):
            return strips
        return [strip.crop(*crop.column_span) for strip in strips]

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        palette = self._palette
        if palette is None:
            return Strip.blank(width)
        base = palette.base
        if not self._turns:
            return self._empty_line(y, width, base)
        row = self.scroll_offset.y + y
        strip = self._strips.get(row)
        selection = self.text_selection
        if strip is None or selection is not None:
            line = self._line(row)
            if selection is not None and (span := selection.get_span(row)) is not None:
                line = self._selected(line, span)
            margin = self._margin(width)
            content = Content(" " * margin) + line
            strip = Strip(content.render_segments(base)).adjust_cell_length(width, base.rich_style)
            strip = _with_offsets(strip, margin, row)
            if selection is None:
                self._strips[row] = strip
        return strip

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        lines = [line.plain.rstrip() for drawn in self._drawn for line in drawn.lines]
        return selection.extract("\n".join(lines)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self._strips.clear()
        self.refresh()

    def _text_width(self) -> int:
        return max(20, min(WIDEST_CELLS, self.size.width - 4))

    def _margin(self, width: int) -> int:
        return max(1, (width - self._width) // 2)

    def _line(self, row: int) -> Content:
        at = bisect_right(self._starts, row) - 1
        if at < 0 or at >= len(self._drawn):
            return Content("")
        lines = self._drawn[at].lines
        inner = row - self._starts[at]
        return lines[inner] if inner < len(lines) else Content("")

    def _selected(self, line: Content, span: tuple[int, int]) -> Content:
        start, end = span
        style = self.screen.get_visual_style("screen--selection", partial=True)
        return line.stylize(style, start, len(line.plain) if end == -1 else end)

    def _empty_line(self, y: int, width: int, base: Style) -> Strip:
        lines = self._empty.split(allow_blank=True) if self._empty else []
        at = y - max(0, (self.size.height - len(lines)) // 2)
        line = lines[at] if 0 <= at < len(lines) else Content("")
        line = line.truncate(width)
        pad = max(0, (width - max((each.cell_length for each in lines), default=0)) // 2)
        content = Content(" " * pad) + line
        return Strip(content.render_segments(base)).adjust_cell_length(width, base.rich_style)

    def _index(self, key: int) -> int | None:
        for at in range(len(self._drawn) - 1, -1, -1):
            if self._drawn[at].turn.key == key:
                return at
        return None

    def _redraw(self) -> None:
        if self._palette is None or not self.size.width:
            return
        self._width = self._text_width()
        self._drawn = [DrawnTurn(turn) for turn in self._turns[self._first :]]
        for drawn in self._drawn:
            drawn.draw(self._width, self._palette)
        self._changed(0, 0)

    def _draw_earlier(self) -> None:
        before = self.virtual_size.height
        self._first = max(0, self._first - WINDOW_TURNS)
        self._redraw()
        self.scroll_to(y=self.virtual_size.height - before, animate=False)

    def _changed(self, at: int, line: int) -> None:
        if self._palette is not None and not self._width and self.size.width:
            self._redraw()
            return
        heights = [len(drawn.lines) for drawn in self._drawn]
        self._starts = list(accumulate(heights, initial=0))[:-1]
        total = sum(heights)
        from_row = self._starts[at] + line if self._drawn else 0
        for row in [row for row in self._strips if row >= from_row]:
            del self._strips[row]
        if len(self._strips) > 4000:
            self._strips.clear()
        grown = total != self.virtual_size.height
        if grown or self.size.width != self.virtual_size.width:
            self._resize_content(Size(self.size.width, total))
        if grown and self.follow:
            self._to_end()
        self.refresh_lines(from_row, max(self.size.height, total - from_row))

    def _resize_content(self, size: Size) -> None:
        """Set the virtual size without laying out the screen: only the scrollbar depends on it.

        Through the reactive every new line would cost a layout and two more paints of all rows.
        """
        self.set_reactive(Widget.virtual_size, size)
        self._scroll_update(size)
        if self.scroll_y > self.max_scroll_y:
            self._to_end()

    def _to_end(self) -> None:
        self._moving = True
        self.scroll_to(y=self.max_scroll_y, animate=False)
        self._moving = False

    def _set_follow(self, following: bool) -> None:
        if following != self.follow:
            self.follow = following
            self.post_message(self.FollowChanged(following))


def _with_offsets(strip: Strip, margin: int, row: int) -> Strip:
    """The strip with selection offsets counted from the start of its text."""
    if not margin:
        return strip.apply_offsets(0, row)
    left, right = strip.divide([margin, strip.cell_length])
    return Strip.join([left, right.apply_offsets(0, row)])
