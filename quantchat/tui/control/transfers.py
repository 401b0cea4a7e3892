"""The app's downloads: the list that survives a restart, worked off in a thread.

Owns the records and what the app asks of them; the list and the bytes are `quantchat.hub`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Phase: TypeAlias = Literal["waiting", "running", "stalled", "stopped", "failed", "elsewhere"]
"""Elsewhere: another process of ours is at it."""

UNDER_WAY: frozenset[Phase] = frozenset({"waiting", "running", "stalled", "elsewhere"})
"""Nobody needs to do anything for it to come."""

What: TypeAlias = Literal["goes_on", "renamed", "came", "failed", "stopped", "dropped", "refused"]
"""Goes on: taken up after a restart; refused: a wish that could not be followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A model on its way, as a line."""

    name: str
    phase: Phase
    done_bytes: int = 0
    total_bytes: int = 0
    """0 where not yet known."""
    bytes_per_s: float = 0.0
    """Over the last seconds."""
    left_s: float | None = None
    files_done: int = 0
    files: int = 0
    file: str = ""
    """The one at work."""
    message: str = ""
    """Why it failed, or what it waits for."""
    waits: str = ""
    """What it does while nothing comes."""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What became of a transfer, told once."""

    what: What
    name: str
    message: str = ""
    hint: str = ""
    again: bool = False
    """It is tried again by itself."""


class Transfers(Protocol):
    """Quick enough for the loop; the work is done in a thread of its own."""

    @property
    def arrived(self) -> int:
        """How many came to disk since the start."""

    def begin(self) -> None:
        """Go on with what the last start left; once the first frame is on the screen."""

    def rows(self) -> list[Transfer]:
        """In the order of their turns."""

    def news(self) -> list[News]:
        """What happened since the last call; for the app alone, which passes it on."""

    def add(self, names: Iterable[str], *, first: bool = False) -> None:
        """Ask for models; one that failed or was stopped waits again. `first`: before the rest."""

    def stop(self, name: str) -> None:
        """Let it be for now; its bytes stay."""

    def drop(self, name: str) -> None:
        """Take it off the list, and the bytes that came with it."""

    def close(self) -> None:
        """Stop within a second; what was at work waits for the next start."""


class NoTransfers:
    """Implements `Transfers` for an app that fetches nothing, such as a benchmark's."""

    arrived = 0

    def __init__(self) -> None:
        self._news: list[News] = []

    def begin(self) -> None:
        """Nothing was left."""

    def rows(self) -> list[Transfer]:
        """Nothing is on its way."""
        return []

    def news(self) -> list[News]:
        """Refusals."""
        told, self._news = self._news, []
        return told

    def add(self, names: Iterable[str], *, first: bool = False) -> None:
        """Refused in words."""
        self._news += [
            News(what="failed", name=name, message="this app downloads nothing") for name in names
        ]

    def stop(self, name: str) -> None:
        """Nothing runs."""

    def drop(self, name: str) -> None:
        """Nothing is there."""

    def close(self) -> None:
        """Nothing runs."""
