"""The list of conversations: grouped by day, any length, only the rows on the screen are drawn.

Owns the cursor, the marks and the look of a row. What is in the list belongs to its screen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from textual.content import Content
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from quantchat.store.finding import Found
from quantchat.store.records import Chat
from quantchat.store.search import matches
from quantchat.tui import figures
from quantchat.tui.days import ago, day_of
from quantchat.tui.markup.palette import Palette, palette_from
from quantchat.tui.printable import printable

MARGIN = 3
"""Cells before a title: the cursor, the mark, a blank."""
AHEAD = 60
"""Rows from the end at which more are asked for."""
WIDE_COLUMNS = 84


@dataclass(frozen=True, slots=True)
class _Line:
    kind: Literal["day", "chat", "snippet"]
    at: int
    """Index of the conversation; of the first one below a day."""
    text: str = ""


class ChatList(ScrollView, can_focus=False):
    """Conversations as they were found."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"chat-list--cursor"}
    DEFAULT_CSS = """
    ChatList > .chat-list--cursor {
        background: $block-cursor-background;
        color: $block-cursor-foreground;
    }
    """

    class Chosen(Message):
        """A conversation was clicked."""

        def __init__(self, chat: Chat) -> None:
            super().__init__()
            self.chat = chat

    class Marked(Message):
        """Marks were set or taken away."""

    class NearEnd(Message):
        """The cursor or the view came near the last row that is known."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.found: list[Found] = []
        self.total = 0
        self.cursor = 0
        self.marked: dict[int, Chat] = {}
        self.open_id: int | None = None
        """The conversation behind the list."""
        self._terms: tuple[str, ...] = ()
        self._lines: list[_Line] = []
        self._starts: list[int] = []
        self._empty = ""
        self._palette: Palette | None = None

    @property
    def current(self) -> Chat | None:
        """The conversation under the cursor."""
        return self.found[self.cursor].chat if self.cursor < len(self.found) else None

    @property
    def chosen(self) -> list[Chat]:
        """Those that are marked, or the one under the cursor."""
        if self.marked:
            return list(self.marked.values())
        return [self.current] if self.current is not None else []

    def show(
        self, found: Sequence[Found], total: int, *, terms: tuple[str, ...], empty: str
    ) -> None:
        """Another list; cursor and marks stay on what is still in it."""
        before = self.current
        self.found, self.total, self._terms, self._empty = list(found), total, terms, empty
        at = {each.chat.id: place for place, each in enumerate(self.found)}
        self.marked = {key: self.found[at[key]].chat for key in self.marked if key in at}
        if before is not None and before.id in at:
            self.cursor = at[before.id]
        self.cursor = max(0, min(self.cursor, len(self.found) - 1))
        self._lay_out()
        self._see_cursor()

    def extend(self, found: Sequence[Found]) -> None:
        """More rows at the end."""
        known = {each.chat.id for each in self.found}
        self.found += [each for each in found if each.chat.id not in known]
        self._lay_out()

    def go_to(self, chat_id: int) -> None:
        """Put the cursor on a conversation, if it is in the list."""
        for at, each in enumerate(self.found):
            if each.chat.id == chat_id:
                self.move_to(at)

    def move_to(self, at: int) -> None:
        """Put the cursor on a row and bring it into view."""
        self.cursor = max(0, min(at, len(self.found) - 1))
        self._see_cursor()
        self.refresh()
        self._near_end()

    def toggle(self) -> None:
        """Mark the row under the cursor, or take its mark away."""
        chat = self.current
        if chat is None:
            return
        if self.marked.pop(chat.id, None) is None:
            self.marked[chat.id] = chat
        self._marks_changed()

    def mark_all(self) -> None:
        """Mark all rows that are known, or none where all are marked."""
        every = {each.chat.id: each.chat for each in self.found}
        self.marked = {} if every.keys() <= self.marked.keys() else {**self.marked, **every}
        self._marks_changed()

    def unmark(self) -> None:
        """Take all marks away."""
        self.marked.clear()
        self._marks_changed()

    def on_mount(self) -> None:
        self._palette = palette_from(self.app.theme_variables)
        self.app.theme_changed_signal.subscribe(self, self._restyle)

    def on_unmount(self) -> None:
        # The signal holds its subscribers, and with them the whole screen.
        self.app.theme_changed_signal.unsubscribe(self)

    def on_resize(self, event: Resize) -> None:
        self._lay_out()
        self._see_cursor()

    def on_click(self, event: Click) -> None:
        event.stop()
        line = self._line_at(event.y + self.scroll_offset.y)
        if line is None or line.kind == "day":
            return
        self.cursor = line.at
        self.refresh()
        if event.x < MARGIN or event.ctrl or event.shift:
            self.toggle()
        elif self.current is not None:
            self.post_message(self.Chosen(self.current))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._near_end()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        palette = self._palette
        if palette is None:
            return Strip.blank(width)
        style = self.visual_style
        line = self._line_at(y + self.scroll_offset.y)
        if line is None:
            content = Content("")
            if y == 0 and not self.found and self._empty:
                content = Content.styled(f"   {self._empty}", palette.muted)
        elif line.kind == "day":
            content = Content.styled(f"   {line.text}", palette.accent)
        else:
            here = line.at == self.cursor
            found = self.found[line.at]
            content = (
                self._chat(found.chat, width, palette, here)
                if line.kind == "chat"
                else self._snippet(found.snippet, width, palette)
            )
            if here:
                style += self.get_visual_style("chat-list--cursor", partial=True)
        content = content.truncate(width, ellipsis=True)
        pad = " " * max(0, width - content.cell_length)
        segments = (content + pad).render_segments(style)
        return Strip(segments).adjust_cell_length(width, style.rich_style)

    def text_on_screen(self) -> str:
        """All rows, for tests."""
        width, palette = self.size.width, self._palette
        assert palette is not None
        rows = []
        for line in self._lines:
            found = self.found[line.at]
            if line.kind == "day":
                rows.append(line.text)
            elif line.kind == "chat":
                here = line.at == self.cursor
                rows.append(self._chat(found.chat, width, palette, here).plain)
            else:
                rows.append(self._snippet(found.snippet, width, palette).plain)
        return "\n".join(rows)

    def _chat(self, chat: Chat, width: int, palette: Palette, here: bool) -> Content:
        muted = palette.base if here else palette.muted
        shown = [figures.model_name(chat.model)] if width >= WIDE_COLUMNS else []
        shown += [chat.scheme, ago(chat.updated_s, time.time())]
        right = printable(" · ".join(part for part in shown if part))[-(width // 2) :]
        mark = "✓" if chat.id in self.marked else "★" if chat.pinned else " "
        head = f"{'›' if here else ' '}{mark} "
        room = max(8, width - len(head) - len(right) - 2)
        tags = Content(printable(" ".join(f"#{tag}" for tag in chat.tags)))
        tags = tags.truncate(room // 2, ellipsis=True)
        name = printable(chat.title) or "untitled"
        title = self._found(name, palette, here)
        title = title.truncate(room - (tags.cell_length + 2 if tags else 0), ellipsis=True)
        if chat.id == self.open_id:
            title = title.stylize("bold")
        left = Content.assemble(head, title)
        if tags:
            # Under the cursor the terminal's colours are turned around: no colours of our own.
            left = Content.assemble(
                left, "  ", tags if here else Content.styled(tags.plain, palette.accent)
            )
        gap = " " * max(1, width - left.cell_length - len(right) - 1)
        return Content.assemble(left, gap, right if here else Content.styled(right, muted))

    def _snippet(self, snippet: str, width: int, palette: Palette) -> Content:
        text = self._found(printable(snippet), palette, here=False, muted=True)
        return Content.assemble(" " * (MARGIN + 2), text).truncate(width, ellipsis=True)

    def _found(self, text: str, palette: Palette, here: bool, muted: bool = False) -> Content:
        content = Content.styled(text, palette.muted) if muted else Content(text)
        for start, end in matches(text, self._terms):
            style = "bold underline" if here else palette.warning
            content = content.stylize(style, start, end)
            content = content.stylize("bold", start, end)
        return content

    def _lay_out(self) -> None:
        self._lines, self._starts = [], []
        day, now_s = "", time.time()
        for at, each in enumerate(self.found):
            its_day = "Pinned" if each.chat.pinned else day_of(each.chat.updated_s, now_s)
            if its_day != day:
                day = its_day
                self._lines.append(_Line("day", at, day))
            self._starts.append(len(self._lines))
            self._lines.append(_Line("chat", at))
            if each.snippet:
                self._lines.append(_Line("snippet", at))
        self.virtual_size = Size(self.size.width, len(self._lines))
        self.refresh()

    def _line_at(self, row: int) -> _Line | None:
        return self._lines[row] if 0 <= row < len(self._lines) else None

    def _see_cursor(self) -> None:
        if not self._starts:
            return
        start = self._starts[self.cursor]
        after = self._starts[self.cursor + 1 :][:1]
        height = 1 + bool(self.found[self.cursor].snippet)
        if start and self._lines[start - 1].kind == "day":
            start, height = start - 1, height + 1
        assert not after or after[0] > start
        self.scroll_to_region(Region(0, start, 1, height), animate=False, force=True)

    def _near_end(self) -> None:
        more = len(self.found) < self.total
        bottom = self.scroll_offset.y + self.size.height
        if more and (bottom > len(self._lines) - AHEAD or self.cursor > len(self.found) - AHEAD):
            self.post_message(self.NearEnd())

    def _marks_changed(self) -> None:
        self.refresh()
        self.post_message(self.Marked())

    def _restyle(self, _: object) -> None:
        self._palette = palette_from(self.app.theme_variables)
        self.refresh()
