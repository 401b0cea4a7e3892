"""The app's downloads: the list that survives a restart, worked off in a thread.

Owns the records and what a picker asks of them; the list and the bytes are `quantchat.hub`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Phase: TypeAlias = Literal["waiting", "running", "stalled", "stopped", "failed", "elsewhere"]
"""Elsewhere: another process of ours is at it."""


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
    hint: str = ""


class Transfers(Protocol):
    """Quick enough for the loop; the work is done in a thread of its own."""

    @property
    def arrived(self) -> int:
        """How many came to disk since the start."""

    def rows(self) -> list[Transfer]:
        """In the order of their turns."""

    def add(self, names: Iterable[str]) -> None:
        """Ask for models; one that failed or was stopped waits again."""

    def stop(self, name: str) -> None:
        """Let it be for now; its bytes stay."""

    def drop(self, name: str) -> None:
        """Take it off the list, and the bytes that came with it."""

    def close(self) -> None:
        """Stop within a second; what was at work waits for the next start."""
