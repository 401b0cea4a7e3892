"""What goes into the engine: frozen requests, free of torch, shared by screens and commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant"]
Slot: TypeAlias = str
"""Where a loaded model lives: "main" for the chat, "left" and "right" side by side."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is picked; temperature 0 is greedy. The same seed gives the same text."""

    temperature: float = 0.7
    top_k: int = 0
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: float = 0.95
    """Keep the smallest set whose probability reaches p; 1 keeps all."""
    min_p: float = 0.0
    """Drop tokens below this share of the likeliest one's probability; 0 drops none."""
    repetition_penalty: float = 1.0
    """Divide positive and multiply negative logits of tokens already seen (CTRL, 1909.05858)."""
    seed: int | None = None
    """None draws a fresh seed for each request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """Put a model into a slot; the slot's old model answers until the new one is ready."""

    slot: Slot = "main"
    model: str
    """Alias, repository id, folder or file, as the user named it."""
    scheme: str = "auto"
    kv: str = "auto"
    device: str = "auto"
    """auto, cpu or cuda."""
    context_tokens: int = 0
    """Longest context wanted; 0 takes what the plan finds fit."""
    calibration_file: str = ""
    """UTF-8 text that calibrated schemes look at; empty: the model writes its own."""
    tune: bool = True
    """Whether kernels are tuned on a card where no measured tiles fit the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """A load that would need less, or another device, after a failure: one field changed."""

    field: Literal["scheme", "kv", "context_tokens", "device"]
    """Of LoadRequest."""
    value: str | int
    words: str = ""
    """What it would save, where that is known."""


TO_CPU = WayOut(field="device", value="cpu", words="the device cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """Answer a conversation with the model in a slot."""

    slot: Slot = "main"
    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 0
    """Longest answer in tokens; 0 is bounded by the context alone."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer; they are not part of it."""
    continue_last: bool = False
    """Go on with the last assistant message instead of opening a new one."""
    prefix_ids: tuple[int, ...] = ()
    """Tokens that the new answer begins with, as they are: part of the prompt, not of the text that
    comes back. Not together with `continue_last`. Draws go on behind them: with the seed of the
    answer that they begin, the same tokens follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """How likely a model holds each token of an answer, beside another model where one is named."""

    slot: Slot
    """The model that scores."""
    messages: tuple[Message, ...]
    """The conversation before the answer."""
    answer_ids: tuple[int, ...]
    first: int = 0
    """Index of the first answer token to score; those before it are context."""
    base: Slot = ""
    """The model it is held against; it must have the same vocabulary."""
    kept: int = 0
    """Instead of `base`: id of an earlier request without a base, whose log-probabilities are kept
    for the case that both models do not fit at once. One set is kept, the latest."""
    exact: bool = False
    """From an empty cache in the plan's chunks, as `quantchat eval` does, when no answer is being
    written; else with what is cached, in small pieces beside answers."""
