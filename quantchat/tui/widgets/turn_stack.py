"""The turns of a transcript as rows: which are drawn, where each begins, which is chosen or folded.

Only a window of the turns is drawn, bounded in rows however long the conversation. Knows of no
screen: rows are counted from the first drawn turn.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from textual.content import Content
from textual.selection import Selection
from textual.style import Style

from quantchat.reasoning import parts_of
from quantchat.tui.markup.palette import Palette
from quantchat.tui.widgets.drawn_turn import PREFIX_CELLS, THOUGHT_BAR, DrawnTurn, Fold
from quantchat.tui.widgets.turn import ACTION, Turn

WINDOW_TURNS = 30
"""Turns drawn at first; more are drawn when the user scrolls to an end of them."""
WINDOW_ROWS = 400
"""Fewer turns are drawn at once where they have so many rows."""
KEPT_ROWS = 1600
"""Turns at the far end are forgotten where those drawn have more rows."""


class TurnStack:
    """All turns, and the lines of those that are drawn."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.drawn: list[DrawnTurn] = []
        self.first = 0
        """Index of the first drawn turn."""
        self.chosen: int | None = None
        """Key of the turn that keys act on."""
        self.rows = 0
        self._starts: list[int] = []
        self._flipped: set[Fold] = set()

    @property
    def at_end(self) -> bool:
        """Whether the latest turn is drawn, or there is none."""
        return self.first + len(self.drawn) >= len(self.turns)

    def set(self, turns: Sequence[Turn]) -> None:
        """Other turns, none of them drawn; nothing is chosen or unfolded."""
        self.turns = list(turns)
        self.drawn, self.first = [], len(self.turns)
        self.chosen = None
        self._flipped.clear()
        self.count()

    def draw(self, width: int, palette: Palette) -> None:
        """Draw the same turns anew; the latest ones where none were drawn yet."""
        if not any(drawn.lines for drawn in self.drawn):
            self.draw_end(width, palette)
            return
        for drawn in self.drawn:
            drawn.draw(width, palette)
        self.count()

    def draw_end(self, width: int, palette: Palette) -> None:
        """Draw the latest turns."""
        self.drawn, self.first = [], len(self.turns)
        self.draw_earlier(width, palette)

    def draw_start(self, width: int, palette: Palette) -> None:
        """Draw the first turns."""
        self.drawn, self.first = [], 0
        self.draw_later(width, palette)

    def draw_earlier(self, width: int, palette: Palette) -> int:
        """Draw more turns before those that are drawn; their rows."""
        fresh = self._fresh(reversed(self.turns[: self.first]), width, palette)
        self.drawn[:0] = reversed(fresh)
        self.first -= len(fresh)
        self._forget(at=-1)
        self.count()
        return sum(len(drawn.lines) for drawn in fresh)

    def draw_later(self, width: int, palette: Palette) -> int:
        """Draw more turns after those that are drawn; the rows forgotten at the top for them."""
        self.drawn += self._fresh(self.turns[self.first + len(self.drawn) :], width, palette)
        return self.trim()

    def trim(self) -> int:
        """Forget turns at the top where there are too many rows; how many rows went."""
        rows = self._forget(at=0)
        self.count()
        return rows

    def insert(self, turn: Turn, before: int | None) -> int | None:
        """A turn at the end or before the one with that key; where, not drawn yet.

        None where the window is elsewhere.
        """
        found = None if before is None else self._place(before)
        place = len(self.turns) if found is None else found
        inside = self.first <= place <= self.first + len(self.drawn)
        self.turns.insert(place, turn)
        if not inside:
            self.first += place < self.first
            return None
        self.drawn.insert(place - self.first, DrawnTurn(turn, self._flipped))
        return place - self.first

    def replace(self, turn: Turn) -> int | None:
        """Another record of a turn; where among the drawn turns it is."""
        place = self._place(turn.key)
        if place is None:
            return None
        self.turns[place] = turn
        at = self.index(turn.key)
        if at is not None:
            self.drawn[at].turn = turn
        return at

    def say(self, key: int, text: str) -> None:
        """More text of a turn that is not drawn."""
        place = self._place(key)
        if place is not None:
            self.turns[place].text += text

    def remove_from(self, key: int) -> bool:
        """Take the turn with that key and all after it away; False where there is none."""
        at = next((at for at, turn in enumerate(self.turns) if turn.key == key), None)
        if at is None:
            return False
        gone = self.turns[at:]
        del self.turns[at:]
        del self.drawn[max(0, at - self.first) :]
        self.first = min(self.first, len(self.turns))
        if any(turn.key == self.chosen for turn in gone):
            self.chosen = None
        return True

    def index(self, key: int) -> int | None:
        """Where among the drawn turns the one with that key is."""
        for at in range(len(self.drawn) - 1, -1, -1):
            if self.drawn[at].turn.key == key:
                return at
        return None

    def at_row(self, row: int) -> int | None:
        """The drawn turn that has this row."""
        at = bisect_right(self._starts, row) - 1
        return at if 0 <= at < len(self.drawn) and row < self.rows else None

    def line(self, row: int) -> Content:
        """A row."""
        at = self.at_row(row)
        return Content("") if at is None else self.drawn[at].lines[row - self._starts[at]]

    def start(self, at: int) -> int:
        """First row of a drawn turn."""
        return self._starts[at] if self.drawn else 0

    def marked(self, row: int) -> bool:
        """Whether the row is part of the chosen turn's text."""
        if self.chosen is None:
            return False
        at = self.at_row(row)
        if at is None or self.drawn[at].turn.key != self.chosen:
            return False
        return row - self._starts[at] < len(self.drawn[at].lines) - 1

    def marked_text(self, selection: Selection) -> str:
        """The selected text, without what the transcript put around it."""
        first = 0 if selection.start is None else selection.start.y
        last = self.rows - 1 if selection.end is None else selection.end.y
        lines = []
        for row in range(max(0, first), min(last, self.rows - 1) + 1):
            span = selection.get_span(row)
            if span is not None:
                start, end = span
                words = words_of(self.line(row))
                end = len(words) if end == -1 else end
                lines.append(words[start:end].replace("\0", "").rstrip())
        return "\n".join(lines)

    def count(self) -> None:
        """Find out where each turn begins."""
        heights = [len(drawn.lines) for drawn in self.drawn]
        self._starts = list(accumulate(heights, initial=0))[:-1]
        self.rows = sum(heights)

    def flip(self, key: int, what: str) -> None:
        """Fold or unfold."""
        self._flipped ^= {(key, what)}

    def foldable(self, turn: Turn) -> list[str]:
        """What of a turn a key folds: its reasoning and files, or all of it."""
        whats = [f"file{at}" for at in range(len(turn.attachments))]
        if turn.role == "assistant" and parts_of(turn.text).reasoning:
            whats.insert(0, "thought")
        return whats or ["all"]

    def neighbour(self, step: int) -> int | None:
        """Key of the turn before or after the chosen one; the last where none is chosen."""
        keys = [turn.key for turn in self.turns if turn.role != "notice" and turn.key > 0]
        if not keys:
            return None
        if self.chosen not in keys:
            return keys[-1]
        at = keys.index(self.chosen) + step
        return keys[max(0, at)] if at < len(keys) else None

    def reach(self, key: int, width: int, palette: Palette) -> bool:
        """Have a turn among the drawn ones; True where other turns are drawn for that."""
        place = self._place(key)
        if place is None or self.index(key) is not None:
            return False
        self.drawn, self.first = [], place
        self.draw_later(width, palette)
        self.draw_earlier(width, palette)
        return True

    def _place(self, key: int) -> int | None:
        for place in range(len(self.turns) - 1, -1, -1):
            if self.turns[place].key == key:
                return place
        return None

    def _fresh(self, turns: Iterable[Turn], width: int, palette: Palette) -> list[DrawnTurn]:
        fresh: list[DrawnTurn] = []
        rows = 0
        for turn in turns:
            if len(fresh) >= WINDOW_TURNS or rows >= WINDOW_ROWS:
                break
            drawn = DrawnTurn(turn, self._flipped)
            drawn.draw(width, palette)
            fresh.append(drawn)
            rows += len(drawn.lines)
        return fresh

    def _forget(self, at: int) -> int:
        """Forget turns at the top (0) or at the bottom (-1) down to KEPT_ROWS; their rows."""
        rows = sum(len(drawn.lines) for drawn in self.drawn)
        gone = 0
        while rows - gone > KEPT_ROWS:
            height = len(self.drawn[at].lines)
            if rows - gone - height < WINDOW_ROWS:
                break
            del self.drawn[at]
            self.first += at == 0
            gone += height
        return gone


def words_of(line: Content) -> str:
    """A line with NUL in place of what is not said: bars, indents, words that can be clicked."""
    words = line.plain
    marks = (
        PREFIX_CELLS + len(THOUGHT_BAR)
        if THOUGHT_BAR in words[: PREFIX_CELLS + 2]
        else PREFIX_CELLS
    )
    cuts = [(0, min(marks, len(words)))]
    for span in line.spans:
        style = span.style
        if isinstance(style, Style) and str(style.meta.get(ACTION, "")).startswith("screen."):
            cuts.append((span.start, span.end))
    for start, end in cuts:
        words = words[:start] + "\0" * (end - start) + words[end:]
    return words
