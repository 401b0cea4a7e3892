"""A comparison as it happened: two sides, and rounds of one prompt with two answers.

Owns the record alone; frozen, free of torch and of any screen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from quantchat.events import FinishReason, Metrics, ModelInfo, TokenScore
from quantchat.requests import Message, Sampling

Mode: TypeAlias = Literal["free", "guided", "blind"]
Choice: TypeAlias = Literal["left", "right", "tie"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one side wrote."""

    text: str
    token_ids: tuple[int, ...]
    pieces: tuple[str, ...]
    """The text of each token."""
    finish_reason: FinishReason | Literal["failed"]
    metrics: Metrics | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One prompt, answered by both; in guided mode the left writes and the right scores."""

    mode: Mode
    messages: tuple[Message, ...]
    """All that the models saw before the answer."""
    right_messages: tuple[Message, ...] | None = None
    """What the right saw in their place, where the earlier answers of both differ."""
    sampling: Sampling
    """With the seed that was drawn."""
    prefix_ids: tuple[int, ...] = ()
    """Tokens that both answers were made to begin with."""
    left: Answer
    right: Answer | None
    """None in guided mode."""
    scores: tuple[TokenScore, ...] = ()
    """Guided mode: the right's view of the left's tokens, the left being the base."""
    choice: Choice | None = None
    """Blind mode: the vote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that an export tells."""

    left: ModelInfo
    right: ModelInfo
    rounds: tuple[Round, ...]
    took_turns: bool
    """Whether both did not fit at once."""
    made_s: float
    """Seconds since the epoch."""
    versions: tuple[tuple[str, str], ...]
    """quantchat, torch, triton, driver: what is there."""
