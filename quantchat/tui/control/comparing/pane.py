"""What a comparison needs of a pane on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from quantchat.tui.control.comparing.rounds import LiveRound
from quantchat.tui.control.comparing.side import SideName


class Pane(Protocol):
    """One of the two, from top to bottom: prompts, answers, what is said of them."""

    def clear(self) -> None:
        """Take everything away."""

    def forget_first(self) -> None:
        """Take the first answer away, and all above it."""

    def ask(self, text: str) -> None:
        """A prompt below what is there."""

    def say(self, text: str) -> None:
        """A remark below what is there."""

    def begin(self, shown: LiveRound, name: SideName) -> None:
        """An answer below what is there, with what is written of it already."""

    def append(self, pieces: Sequence[str]) -> None:
        """More tokens of the last answer."""

    def end(self) -> None:
        """The last answer is complete: its text and figures are drawn anew."""

    def to_start(self) -> None:
        """Show the beginning."""

    def repaint(self, first: int = 0, end: int | None = None) -> None:
        """Tokens of the last answer changed their ink."""

    def point(self, index: int | None, *, near: bool) -> None:
        """The cursor of the last answer; `near` in the pane that it is moved in."""

    def relabel(self) -> None:
        """Names are shown or hidden."""
