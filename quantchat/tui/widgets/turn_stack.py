"""The turns of a transcript as rows: which are drawn, where each begins, which is chosen or folded.

Knows of no screen: rows are counted from the first drawn turn.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from textual.content import Content

from quantchat.reasoning import parts_of
from quantchat.tui.markup.palette import Palette
from quantchat.tui.widgets.drawn_turn import DrawnTurn, Fold
from quantchat.tui.widgets.turn import Turn

WINDOW_TURNS = 30
"""Turns drawn at first; more are drawn when the user scrolls to the top."""


class TurnStack:
    """All turns, and the lines of those from `first` on."""

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

    def set(self, turns: Sequence[Turn]) -> None:
        """Other turns; nothing is chosen or unfolded."""
        self.turns = list(turns)
        self.first = max(0, len(turns) - WINDOW_TURNS)
        self.chosen = None
        self._flipped.clear()

    def draw(self, width: int, palette: Palette) -> None:
        """Draw the window anew."""
        self.drawn = [DrawnTurn(turn, self._flipped) for turn in self.turns[self.first :]]
        for drawn in self.drawn:
            drawn.draw(width, palette)

    def insert(self, turn: Turn, before: int | None) -> tuple[int, DrawnTurn]:
        """A turn at the end or before the one with that key; where it is, not drawn yet."""
        found = None if before is None else self.index(before)
        at = len(self.drawn) if found is None else found
        self.turns.insert(self.first + at, turn)
        drawn = DrawnTurn(turn, self._flipped)
        self.drawn.insert(at, drawn)
        return at, drawn

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

    def reach(self, key: int) -> bool:
        """Let the window begin early enough for a turn; True where it must be drawn anew."""
        at = next((at for at, turn in enumerate(self.turns) if turn.key == key), None)
        if at is None or at >= self.first:
            return False
        self.first = max(0, at - WINDOW_TURNS // 2)
        return True
