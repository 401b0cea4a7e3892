"""A list that scrolls and draws only the rows on the screen, with one of them under the cursor.

Owns colours, widths and the look of the cursor. What the rows say belongs to the lists themselves.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from textual.content import Content
from textual.events import Resize
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget

from quantchat.tui.markup.palette import Palette, palette_from
from quantchat.tui.widgets.strips import WholeStrip, rows_as_drawn

CURSOR = "line-list--cursor"
ROWS_KEPT = 200
"""Drawn rows of things that always look the same; a screen shows fifty."""


class LineList(ScrollView, can_focus=False):
    """Lines of one row each; they never scroll sideways."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {CURSOR}
    DEFAULT_CSS = f"""
    LineList {{
        overflow-x: hidden;
    }}

    LineList > .{CURSOR} {{
        background: $block-cursor-background;
        color: $block-cursor-foreground;
        text-style: $block-cursor-text-style;
    }}
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cursor = 0
        self._palette: Palette | None = None
        self._kept: dict[tuple[int, bool], tuple[object, Strip]] = {}
        self._kept_width = 0

    @abstractmethod
    def line(self, number: int, width: int, palette: Palette) -> Content:
        """The line of that number; an empty one after the last."""

    @abstractmethod
    def is_chosen(self, number: int) -> bool:
        """Whether the line is under the cursor."""

    def same_looking(self, number: int) -> object | None:
        """What the line shows, where only width, theme and cursor change its look."""
        return None

    @abstractmethod
    def lay_out(self) -> None:
        """Another width."""

    @abstractmethod
    def see_cursor(self) -> None:
        """Bring the cursor into view."""

    @property
    def room(self) -> int:
        """Cells of a row, beside the scroll bar."""
        return self.scrollable_content_region.width

    def has_lines(self, count: int) -> None:
        """So many lines there are from now on."""
        size = Size(0, count)
        if size != self.virtual_size:
            # The reactive would lay out the whole screen; only the scroll bar depends on it.
            self.set_reactive(Widget.virtual_size, size)
            self._scroll_update(size)
        self.refresh()

    def on_mount(self) -> None:
        """Follow the theme."""
        self._palette = palette_from(self.app.theme_variables)
        self.app.theme_changed_signal.subscribe(self, self._restyle)

    def on_unmount(self) -> None:
        """The signal holds its subscribers, and with them the whole screen."""
        self.app.theme_changed_signal.unsubscribe(self)

    def on_resize(self, event: Resize) -> None:
        """Lay the lines out anew."""
        self.lay_out()
        self.see_cursor()

    def render_lines(self, crop: Region) -> list[Strip]:
        if self._palette is None or self.size.width != self.region.width:
            return super().render_lines(crop)
        return rows_as_drawn(self, crop, self.render_line, self.visual_style)

    def render_line(self, y: int) -> Strip:
        """A row of the screen."""
        width = self.room
        if self._palette is None:
            return Strip.blank(width)
        number = y + self.scroll_offset.y
        chosen, what = self.is_chosen(number), self.same_looking(number)
        if what is None:
            return self._drawn(number, chosen, width, self._palette)
        if width != self._kept_width or len(self._kept) >= ROWS_KEPT:
            self._kept.clear()
            self._kept_width = width
        kept = self._kept.get((id(what), chosen))
        if kept is None or kept[0] is not what:
            kept = (what, self._drawn(number, chosen, width, self._palette))
            self._kept[id(what), chosen] = kept
        return kept[1]

    def _drawn(self, number: int, chosen: bool, width: int, palette: Palette) -> Strip:
        content = self.line(number, width, palette).truncate(width, ellipsis=True)
        style = self._cursor_style() if chosen else self.visual_style
        pad = " " * max(0, width - content.cell_length)
        segments = (content + pad).render_segments(style)
        return WholeStrip.of(Strip(segments).adjust_cell_length(width, style.rich_style))

    def text_on_screen(self) -> str:
        """All lines, for tests."""
        palette, total, width = self._palette, self.virtual_size.height, self.room
        assert palette is not None
        return "\n".join(self.line(number, width, palette).plain for number in range(total))

    def _cursor_style(self) -> Style:
        # Textual leaves the background out of partial styles, and "reverse" out of all.
        reverse = bool(self.get_component_styles(CURSOR).text_style.reverse)
        return self.get_visual_style(CURSOR) + Style(reverse=reverse or None)

    def _restyle(self, _: object) -> None:
        self._palette = palette_from(self.app.theme_variables)
        self._kept.clear()
        self.refresh()
