"""What is shown and told of downloads: written by the threads that work, read by the loop that draws.

Owns the lines, the news and the one that is at work. Every call is quick: nothing but memory.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantchat.tui.control.transfer_rows import at_work, reason
from quantchat.tui.control.transfers import News, Transfer

if TYPE_CHECKING:
    from quantchat.hub.progress import FetchProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """The board at a moment, before the list is read from disk."""

    lines: dict[str, Transfer]
    running: str
    changes: int
    settled: bool
    """No wish was on its way to the list."""


class Board:
    """Safe in every thread."""

    def __init__(self) -> None:
        self.arrived = 0
        self._lock = threading.Lock()
        self._lines: list[Transfer] = []
        self._news: list[News] = []
        self._running = ""
        self._progress: FetchProgress | None = None
        self._changes = 0
        self._pending = 0

    @property
    def running(self) -> str:
        """The one that is at work here; "" for none."""
        return self._running

    def rows(self) -> list[Transfer]:
        """In the order of their turns."""
        with self._lock:
            lines, name, progress = list(self._lines), self._running, self._progress
        if not name or progress is None:
            return lines
        live = at_work(name, progress)
        if all(line.name != name for line in lines):
            return [live, *lines]
        return [live if line.name == name else line for line in lines]

    def take_news(self) -> list[News]:
        """What happened since the last call."""
        with self._lock:
            told, self._news = self._news, []
        return told

    def tell(self, news: News) -> None:
        """Something that happened."""
        with self._lock:
            self._news.append(news)

    def tell_failed(self, name: str, message: str, hint: str, *, again: bool) -> None:
        """Why one did not come."""
        words = reason(name, message)
        self.tell(News(what="failed", name=name, message=words, hint=hint, again=again))

    def wish(self, names: Sequence[str] = ()) -> None:
        """The list is about to change; `names` are shown as waiting at once."""
        with self._lock:
            self._changes += 1
            self._pending += 1
            there = {line.name for line in self._lines}
            self._lines = [
                dataclasses.replace(line, phase="waiting", message="", hint="")
                if line.name in names and line.phase in ("failed", "stopped", "waiting")
                else line
                for line in self._lines
            ] + [Transfer(name=name, phase="waiting") for name in names if name not in there]

    def followed(self) -> None:
        """The list has changed as wished."""
        with self._lock:
            self._changes += 1
            self._pending -= 1

    def begin(self, name: str) -> None:
        """Its turn has come."""
        with self._lock:
            self._changes += 1
            self._running, self._progress = name, None
            self._lines = [
                dataclasses.replace(line, phase="running", message="", hint="")
                if line.name == name
                else line
                for line in self._lines
            ]

    def move(self, progress: FetchProgress) -> None:
        """Bytes or steps of the one at work."""
        self._progress = progress

    def end(self) -> None:
        """The one at work is so no more."""
        with self._lock:
            self._changes += 1
            self._running, self._progress = "", None

    def came(self, name: str) -> None:
        """It is on disk."""
        with self._lock:
            self._changes += 1
            if self._running == name:
                self._running, self._progress = "", None
            self._lines = [line for line in self._lines if line.name != name]
            self.arrived += 1
            self._news.append(News(what="came", name=name))

    def drop(self, name: str) -> None:
        """It is off the list."""
        with self._lock:
            self._changes += 1
            self._lines = [line for line in self._lines if line.name != name]

    def glance(self) -> Glance:
        """Before the list is read."""
        with self._lock:
            return Glance(
                lines={line.name: line for line in self._lines},
                running=self._running,
                changes=self._changes,
                settled=not self._pending,
            )

    def put(self, lines: list[Transfer], since: Glance) -> bool:
        """Show the list as it was read; False where the board changed since, and wins."""
        with self._lock:
            if not since.settled or since.changes != self._changes:
                return False
            self._lines = lines
            return True
