"""The list of the model picker: sections of any length, only the rows on the screen are drawn.

Owns the cursor and the lines. What is listed belongs to the screen, a row's look to `picker_rows`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from textual.content import Content
from textual.events import Click
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip

from quantchat.tui.control.hub_finds import RepoEntry
from quantchat.tui.control.picking import Entry, Section
from quantchat.tui.markup.palette import Palette
from quantchat.tui.printable import printable
from quantchat.tui.widgets.line_list import LineList
from quantchat.tui.widgets.picker_rows import FitsOf, heading, row

NOTE_LINES = 4


class PickerList(LineList):
    """Sections with a heading each, and notes where there is something to say.

    The cursor counts entries alone.
    """

    DEFAULT_CSS = """
    PickerList {
        overflow-y: scroll;
    }
    """
    # A bar that comes and goes with what is typed lays out the screen and moves every column.

    class Moved(Message):
        """Another entry is under the cursor, or none."""

    class Taken(Message):
        """The entry under the cursor was clicked."""

    def __init__(self, fits_of: FitsOf, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.sections: tuple[Section, ...] = ()
        self.loaded = ""
        """The model that answers."""
        self.shows = 0
        """How often it was given what to list."""
        self.drawn = 0
        """Which of these was drawn last."""
        self._gone = ""
        """The entry that was under the cursor and is in no section now: it may come back."""
        self._fits_of = fits_of
        self._starts: list[int] = []
        """Line of each section's heading."""
        self._firsts: list[int] = []
        """Number of each section's first entry."""
        self._said: list[list[tuple[str, bool]]] = []
        """Lines of each section's note, and whether they are its hint."""
        self._count = 0

    @property
    def count(self) -> int:
        """How many entries there are."""
        return self._count

    @property
    def current(self) -> Entry | None:
        """The entry under the cursor."""
        return self._entry(self.cursor)

    def near(self, most: int) -> list[Entry]:
        """Entries on the screen, those closest to the cursor first."""
        top = self.scroll_offset.y
        shown = [self._at_line(number) for number in range(top, top + self.size.height)]
        places = sorted(
            (at for at in shown if at is not None), key=lambda at: abs(at - self.cursor)
        )
        entries = [self._entry(at) for at in places[:most]]
        return [entry for entry in entries if entry is not None]

    def show(self, sections: Sequence[Section], *, go_to: int | None = None) -> None:
        """Other sections; the cursor stays on its entry, or goes to the number that is given."""
        before = self.current
        section = self._section_of(self.cursor)
        kind = self.sections[section].kind if section is not None else None
        self.sections = tuple(sections)
        self.shows += 1
        self.lay_out()
        if go_to is not None:
            self._gone = ""
        elif before is not None:
            name = self._gone or before.name
            go_to = self._find(name, None if self._gone else kind)
            self._gone = name if go_to is None else ""
            if go_to is None:
                go_to = self._find(before.name, kind)
        self.cursor = max(0, min(self.cursor if go_to is None else go_to, self._count - 1))
        self.see_cursor()
        self.refresh()
        now = self.current
        if now != before:
            self.post_message(self.Moved())

    def move_to(self, at: int) -> None:
        """Put the cursor on an entry and bring it into view."""
        self._gone = ""
        at = max(0, min(at, self._count - 1))
        moved, self.cursor = at != self.cursor, at
        self.see_cursor()
        self.refresh()
        if moved:
            self.post_message(self.Moved())

    def go_to(self, name: str) -> bool:
        """Put the cursor on the first entry with that name; whether there is one."""
        at = self._find(name, None)
        if at is not None:
            self.move_to(at)
        return at is not None

    def on_click(self, event: Click) -> None:
        event.stop()
        at = self._at_line(event.y + self.scroll_offset.y)
        if at is None:
            return
        if at == self.cursor:
            self.post_message(self.Taken())
        else:
            self.move_to(at)

    def render_lines(self, crop: Region) -> list[Strip]:
        self.drawn = self.shows
        return super().render_lines(crop)

    def is_chosen(self, number: int) -> bool:
        """Whether the line is that of the entry under the cursor."""
        return self._count > 0 and self._at_line(number) == self.cursor

    def same_looking(self, number: int) -> object | None:
        """A repository: thousands of them stay where they are from letter to letter."""
        at = self._at_line(number)
        entry = None if at is None else self._entry(at)
        return entry if isinstance(entry, RepoEntry) else None

    def line(self, number: int, width: int, palette: Palette) -> Content:
        """A heading, an entry or a note."""
        index = bisect_right(self._starts, number) - 1
        if index < 0 or number >= self.virtual_size.height:
            return Content("")
        section = self.sections[index]
        below = number - self._starts[index] - 1
        if below < 0:
            titles = bool(section.entries)
            return heading(section.kind, section.title, width, palette, titles=titles)
        if below < len(section.entries):
            return row(
                section.entries[below],
                section.kind,
                width,
                palette,
                here=self._firsts[index] + below == self.cursor,
                loaded=self.loaded,
                fits_of=self._fits_of,
            )
        said = self._said[index][below - len(section.entries) :]
        if not said:
            return Content("")
        text, hint = said[0]
        ink = palette.warning if section.trouble and not hint else palette.muted
        return Content.styled(f"   {text}", ink)

    def lay_out(self) -> None:
        """Find the line of each section."""
        self._starts, self._firsts = [], []
        room = max(20, self.room - 4)
        self._said = [_wrapped(section, room) for section in self.sections]
        lines = entries = 0
        for section, said in zip(self.sections, self._said, strict=True):
            self._starts.append(lines)
            self._firsts.append(entries)
            entries += len(section.entries)
            # A blank line after each.
            lines += 2 + len(section.entries) + len(said)
        self._count = entries
        self.has_lines(max(0, lines - 1))

    def _section_of(self, at: int) -> int | None:
        """The section of an entry; sections without entries begin where the next one does."""
        index = bisect_right(self._firsts, at) - 1
        return index if index >= 0 and at < self._count else None

    def _entry(self, at: int) -> Entry | None:
        index = self._section_of(at)
        if index is None:
            return None
        below = at - self._firsts[index]
        entries = self.sections[index].entries
        return entries[below] if below < len(entries) else None

    def _at_line(self, number: int) -> int | None:
        """Number of the entry on a line; None for headings and notes."""
        index = bisect_right(self._starts, number) - 1
        if index < 0:
            return None
        below = number - self._starts[index] - 1
        inside = 0 <= below < len(self.sections[index].entries)
        return self._firsts[index] + below if inside else None

    def _find(self, name: str, kind: str | None) -> int | None:
        """Number of the entry with a name, in its section if it is still there."""
        elsewhere = None
        for section, first in zip(self.sections, self._firsts, strict=True):
            for at, entry in enumerate(section.entries):
                if entry.name == name:
                    if kind is None or section.kind == kind:
                        return first + at
                    if elsewhere is None:
                        elsewhere = first + at
        return elsewhere

    def see_cursor(self) -> None:
        """Bring the entry into view, the first one with its heading."""
        index = self._section_of(self.cursor)
        if index is None:
            self.scroll_to(y=0, animate=False, force=True)
            return
        line = self._starts[index] + 1 + self.cursor - self._firsts[index]
        first = self.cursor == self._firsts[index]
        top = self._starts[index] if first else line
        self.scroll_to_region(Region(0, top, 1, line - top + 1), animate=False, force=True)


def _wrapped(section: Section, room: int) -> list[tuple[str, bool]]:
    lines = []
    for text, hint in ((section.note, False), (section.hint, True)):
        if text:
            found = Content(printable(text)).wrap(room)[:NOTE_LINES]
            lines += [(each.plain, hint) for each in found]
    return lines
