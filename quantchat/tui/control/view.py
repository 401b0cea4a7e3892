"""What a conversation needs of the screen that draws it."""

from __future__ import annotations

from typing import Protocol

from quantchat.tui.widgets.turn import Turn


class View(Protocol):
    """What a conversation needs of the screen."""

    def show(self, turns: list[Turn], stay: int | None = None) -> None:
        """Replace all turns; go to the end, or stay at the turn with that key."""

    def add(self, turn: Turn, before: int | None = None) -> None:
        """A turn at the end, or before the one with that key."""

    def append(self, key: int, text: str) -> None:
        """Streamed text."""

    def update(self, turn: Turn) -> None:
        """A turn changed."""

    def remove_from(self, key: int) -> None:
        """Take a turn and all after it away."""
