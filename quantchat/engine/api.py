"""The engine as screens and commands see it; `session.Session` is the real one, tests have a fake.

Importing this, or `session`, loads no torch: the engine thread does that.
"""

from __future__ import annotations

from typing import Protocol

from quantchat.events import Event
from quantchat.requests import ChatRequest, LoadRequest, ScoreRequest, Slot


class Engine(Protocol):
    """Commands in, events out. Every method may be called from any thread and returns at once."""

    def load(self, request: LoadRequest) -> int:
        """Load a model in the background; LoadProgress, then Loaded or LoadFailed carry the id."""

    def cancel_load(self, slot: Slot) -> None:
        """Give up the slot's pending load; its LoadFailed says `cancelled`."""

    def unload(self, slot: Slot) -> None:
        """Empty the slot and give its memory back; Unloaded follows."""

    def chat(self, request: ChatRequest) -> int:
        """Queue an answer; Started, Token, Stats, then Done or Failed carry the id."""

    def score(self, request: ScoreRequest) -> int:
        """Queue a scoring; Scored, once or more, or Failed carry the id. Answers go first."""

    def cancel(self, request_id: int) -> None:
        """Stop an answer after the running step; Done says `cancelled` and keeps the text.

        A scoring ends with a last Scored, `done` and without scores.
        """

    def drain(self) -> list[Event]:
        """All events since the last call, oldest first, without waiting."""

    def wait(self, timeout_s: float) -> list[Event]:
        """As drain, but waits until there is at least one or the time is up."""

    def close(self) -> None:
        """Stop the engine thread and release every model."""
