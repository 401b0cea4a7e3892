"""Downloads without a hub: a script of what comes, moved on whenever the app looks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from quantchat.errors import DownloadError
from quantchat.tui.control.transfers import News, Transfer

SIZE_BYTES = 98_362_432


class FakeTransfers:
    """Implements `Transfers`: one at a time, each half there at first and whole once it may be."""

    def __init__(self, there: dict[str, bool]) -> None:
        self.there = there
        """Model -> whether it is on disk."""
        self.hold = False
        """The one at work stands still."""
        self.error: DownloadError | None = None
        """What the next ones end with."""
        self.lines: list[Transfer] = []
        """Set by a test for what `rows` is to show."""
        self.arrived = 0
        self.begun = False
        self.closed = False
        self._news: list[News] = []

    def begin(self) -> None:
        """Nothing was left."""
        self.begun = True

    def rows(self) -> list[Transfer]:
        """In the order of asking."""
        return list(self.lines)

    def news(self) -> list[News]:
        """What happened; the one at work goes on first."""
        self._go_on()
        told, self._news = self._news, []
        return told

    def tell(self, news: News) -> None:
        """Something that happened, for the next look."""
        self._news.append(news)

    def add(self, names: Iterable[str], *, first: bool = False) -> None:
        """At the end, or before those that wait."""
        names = list(names)
        kept = [line for line in self.lines if line.name not in names]
        fresh = [Transfer(name=name, phase="waiting", total_bytes=SIZE_BYTES) for name in names]
        at = next((at for at, line in enumerate(kept) if line.phase == "waiting"), len(kept))
        self.lines = [*kept[:at], *fresh, *kept[at:]] if first else [*kept, *fresh]

    def stop(self, name: str) -> None:
        """It keeps what it has."""
        self._change(name, phase="stopped", bytes_per_s=0.0, left_s=None)
        self.tell(News(what="stopped", name=name, message="the download was stopped"))

    def drop(self, name: str) -> None:
        """Gone from the list."""
        self.lines = [line for line in self.lines if line.name != name]
        self.tell(News(what="dropped", name=name))

    def close(self) -> None:
        """Remembered."""
        self.closed = True

    def _go_on(self) -> None:
        turn = next((line for line in self.lines if line.phase in ("running", "waiting")), None)
        if turn is None:
            return
        if turn.phase == "waiting":
            half = SIZE_BYTES // 2
            self._change(
                turn.name, phase="running", done_bytes=half, bytes_per_s=4e6, left_s=12.0, files=1
            )
        elif self.error is not None:
            message, hint = self.error.message, self.error.hint
            self._change(
                turn.name, phase="failed", message=message, hint=hint, bytes_per_s=0.0, left_s=None
            )
            self.tell(News(what="failed", name=turn.name, message=message, hint=hint))
        elif not self.hold:
            self.lines = [line for line in self.lines if line.name != turn.name]
            self.there[turn.name] = True
            self.arrived += 1
            self.tell(News(what="came", name=turn.name))

    def _change(self, name: str, **values: object) -> None:
        self.lines = [
            dataclasses.replace(line, **values) if line.name == name else line  # type: ignore[arg-type]
            for line in self.lines
        ]
