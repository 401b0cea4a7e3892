"""How full the context is before a message is sent, estimated from what was measured.

The app has no tokenizer: bytes per token come from an answer of this conversation that the engine
counted, else from what is usual for English text. What is left out follows `engine.context`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantchat.engine.context import answer_room
from quantchat.store.records import Turn
from quantchat.tui.control.said import message_of

USUAL_BYTES_PER_TOKEN = 3.6
FEWEST, MOST = 0.5, 8.0
"""Bytes per token outside of these are not believed."""
TURN_TOKENS = 6
"""What a template writes around a message, about."""
NEARLY_FULL = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A conversation with the message to come, in tokens; all but the limit are estimates."""

    limit: int
    history: int
    draft: int
    budget: int
    """What the prompt may have, with room for an answer kept."""
    left_out: int
    """Oldest messages that would not be sent."""

    @property
    def share(self) -> float:
        """Of the context, with the message."""
        return (self.history + self.draft) / max(1, self.limit)

    @property
    def nearly_full(self) -> bool:
        """Whether the user should know."""
        return self.left_out > 0 or (self.history > 0 and self.share >= NEARLY_FULL)

    @property
    def draft_too_long(self) -> bool:
        """Whether the message alone is too long, beyond the doubt of the estimate."""
        return self.draft > 1.15 * self.budget


def size_bytes(text: str) -> int:
    """In UTF-8."""
    return len(text.encode("utf-8", "replace"))


def bytes_per_token(path: Sequence[Turn], limit: int) -> float:
    """As the engine counted it for the longest answered part of a path that was sent whole."""
    found, most = USUAL_BYTES_PER_TOKEN, 100
    before = 0
    for at, turn in enumerate(path):
        metrics = turn.metrics or {}
        tokens = int(metrics.get("prompt_tokens", 0)) + int(metrics.get("completion_tokens", 0))
        if turn.role == "assistant" and most < tokens < 0.8 * limit:
            ratio = (before + size_bytes(turn.content)) / max(1, tokens - TURN_TOKENS * (at + 1))
            if FEWEST <= ratio <= MOST:
                found, most = ratio, tokens
        before += size_bytes(message_of(turn).content)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """A conversation in tokens, ready for any message to come."""

    limit: int
    ratio: float
    """Bytes per token."""
    history: int
    costs: tuple[tuple[bool, int], ...]
    """Of each message: whether the user wrote it, and its tokens."""

    def tokens(self, count_bytes: int) -> int:
        """A message of so many bytes."""
        return round(count_bytes / self.ratio) + TURN_TOKENS if count_bytes else 0

    def room(self, draft_bytes: int, *, max_tokens: int) -> Room:
        """What a message of so many bytes would leave."""
        draft = self.tokens(draft_bytes)
        budget = self.limit - answer_room(self.limit, max_tokens)
        left_out, total = 0, self.history + draft
        for at, (from_user, cost) in enumerate(self.costs):
            if total <= budget and (from_user or not left_out):
                break
            total -= cost
            left_out = at + 1
        return Room(
            limit=self.limit, history=self.history, draft=draft, budget=budget, left_out=left_out
        )


def weigh(path: Sequence[Turn], system_prompt: str, *, limit: int) -> Weighed:
    """Estimate a conversation: exactly as the engine counted it where it has."""
    ratio = bytes_per_token(path, limit)

    def tokens(text: str) -> int:
        return round(size_bytes(text) / ratio) + TURN_TOKENS

    costs = tuple((turn.role == "user", tokens(message_of(turn).content)) for turn in path)
    history = sum(cost for _, cost in costs) + (tokens(system_prompt) if system_prompt else 0)
    last = path[-1] if path else None
    if last is not None and last.metrics and last.role == "assistant":
        counted = last.metrics.get("prompt_tokens", 0) + last.metrics.get("completion_tokens", 0)
        thought = last.metrics.get("thought_tokens", 0)
        if thought < counted < 0.8 * limit:
            history = int(counted - thought)
    return Weighed(limit=limit, ratio=ratio, history=history, costs=costs)
