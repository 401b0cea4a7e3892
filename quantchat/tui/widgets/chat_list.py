"""The list of conversations: grouped by day, any length, only the rows on the screen are drawn.

Owns the cursor, the marks and the look of a row. What is in the list belongs to its screen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from textual.content import Content
from textual.events import Click
from textual.geometry import Region
from textual.message import Message

from quantchat.store.finding import Found
from quantchat.store.records import Chat
from quantchat.store.search import matches
from quantchat.tui import figures
from quantchat.tui.days import ago, day_of
from quantchat.tui.markup.palette import Palette
from quantchat.tui.printable import printable
from quantchat.tui.widgets.line_list import LineList

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


class ChatList(LineList):
    """Conversations as they were found."""

    class Chosen(Message):
        """A conversation was clicked."""

        def __init__(self, chat: Chat) -> None:
            super().__init__()
            self.chat = chat

    class Marked(Message):
        """Marks were set or taken away."""

    class NearEnd(Message):
        """The cursor or the view came near the last row that is known."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.found: list[Found] = []
        self.total = 0
        self.marked: dict[int, Chat] = {}
        self.open_id: int | None = None
        """The conversation behind the list."""
        self._terms: tuple[str, ...] = ()
        self._lines: list[_Line] = []
        self._starts: list[int] = []
        self._empty = ""

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
        self.lay_out()
        self.see_cursor()

    def extend(self, found: Sequence[Found]) -> None:
        """More rows at the end."""
        known = {each.chat.id for each in self.found}
        self.found += [each for each in found if each.chat.id not in known]
        self.lay_out()

    def go_to(self, chat_id: int) -> None:
        """Put the cursor on a conversation, if it is in the list."""
        for at, each in enumerate(self.found):
            if each.chat.id == chat_id:
                self.move_to(at)

    def move_to(self, at: int) -> None:
        """Put the cursor on a row and bring it into view."""
        self.cursor = max(0, min(at, len(self.found) - 1))
        self.see_cursor()
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

    def is_chosen(self, number: int) -> bool:
        """Whether the line is one of the conversation under the cursor."""
        line = self._line_at(number)
        return line is not None and line.kind != "day" and line.at == self.cursor

    def line(self, number: int, width: int, palette: Palette) -> Content:
        """A day, a conversation, or what was found in it."""
        line = self._line_at(number)
        if line is None:
            nothing = number == 0 and not self.found
            return Content.styled(f"   {self._empty}" if nothing else "", palette.muted)
        if line.kind == "day":
            return Content.styled(f"   {line.text}", palette.accent)
        found, here = self.found[line.at], line.at == self.cursor
        if line.kind == "chat":
            return self._chat(found.chat, width, palette, here)
        return self._snippet(found.snippet, palette, here)

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
            left = Content.assemble(
                left, "  ", tags if here else Content.styled(tags.plain, palette.accent)
            )
        gap = " " * max(1, width - left.cell_length - len(right) - 1)
        return Content.assemble(left, gap, right if here else Content.styled(right, muted))

    def _snippet(self, snippet: str, palette: Palette, here: bool) -> Content:
        text = self._found(printable(snippet), palette, here, muted=not here)
        return Content.assemble(" " * (MARGIN + 2), text)

    def _found(self, text: str, palette: Palette, here: bool, muted: bool = False) -> Content:
        content = Content.styled(text, palette.muted) if muted else Content(text)
        # Under the cursor the terminal's colours are turned around: no colours of our own.
        style = "underline" if here else palette.warning
        for start, end in matches(text, self._terms):
            content = content.stylize(style, start, end).stylize("bold", start, end)
        return content

    def lay_out(self) -> None:
        """The lines of all conversations."""
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
        self.has_lines(len(self._lines))

    def _line_at(self, row: int) -> _Line | None:
        return self._lines[row] if 0 <= row < len(self._lines) else None

    def see_cursor(self) -> None:
        """Bring the conversation into view, with its day and what was found in it."""
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
