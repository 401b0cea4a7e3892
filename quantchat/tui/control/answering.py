"""The answer that streams now, and how long its model thinks before it speaks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from quantchat.events import ModelInfo, PrefillProgress
from quantchat.reasoning import ReasoningStream
from quantchat.store.chats import Chats
from quantchat.store.records import Figures
from quantchat.store.records import Turn as StoredTurn
from quantchat.tui.control.shown import shown
from quantchat.tui.widgets.turn import Turn


class Thought:
    """Tokens and seconds of reasoning, as precise as the flushes that bring the text."""

    def __init__(self) -> None:
        self.tokens = 0
        self.seconds = 0.0
        self._stream = ReasoningStream()
        self._began_s: float | None = None
        self._over = False

    def feed(self, text: str, tokens: int = 0) -> None:
        """More of the answer; text without tokens was there before."""
        if self._over:
            return
        self._stream.feed(text)
        now_s = time.monotonic()
        if self._began_s is not None:
            self.seconds = now_s - self._began_s
            self.tokens += tokens
        if self._stream.thinking:
            if self._began_s is None:
                self._began_s, self.tokens = now_s, tokens
        elif self._began_s is not None or text.strip():
            self._over = True

    def figures(self) -> dict[str, float | int]:
        """What the store keeps of it; nothing where there was none."""
        if self._began_s is None:
            return {}
        return {"thought_s": self.seconds, "thought_tokens": self.tokens}


@dataclass(slots=True, kw_only=True)
class Answering:
    """The answer that streams now."""

    request_id: int
    turn: StoredTurn
    drawn: Turn
    prefix: str
    """What it begins with that is not streamed: an answer to go on with, or the mark of reasoning
    that the model's template opens."""
    goes_on: bool = False
    """The prefix is an answer."""
    text: str = ""
    prefill: PrefillProgress | None = None
    stopping: bool = False
    thought: Thought = field(default_factory=Thought)

    @property
    def whole(self) -> str:
        """All of its text so far."""
        return self.prefix + self.text

    def take(self, text: str, tokens: int) -> None:
        """Streamed text."""
        self.prefill = None
        self.text += text
        self.thought.feed(text, tokens)
        self.drawn.thought_tokens, self.drawn.thought_s = self.thought.tokens, self.thought.seconds

    def hand_over(self, chats: Chats, info: ModelInfo) -> StoredTurn:
        """Another model answers than was asked, and nothing was drawn; raises StoreError."""
        begun = self.prefix if self.goes_on else info.opening
        # Its first tokens may be in the store already.
        self.turn = chats.hand_over(
            self.turn.id, self.prefix, begun, model=info.model, scheme=info.scheme, kv=info.kv
        )
        self.prefix, self.thought = begun, Thought()
        self.thought.feed(begun)
        self.drawn.text, self.drawn.label = begun, shown(self.turn).label
        return self.turn

    def figures(self, kept: Figures | None) -> dict[str, float | int] | None:
        """Metrics that are stored, those of its reasoning with them."""
        thought = self.thought.figures()
        return {**(kept or {}), **thought} if thought or kept is not None else None
