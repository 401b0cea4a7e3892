"""A comparison from two loads to its record, one step after the other, over an engine.

Owns the order: loads, answers, scores; and turns where both do not fit. Blocks: for commands. The
sides answer one after the other, so that neither slows the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from quantchat.comparing.record import Answer, Comparison, Round
from quantchat.comparing.seeds import seeded
from quantchat.comparing.turns import TURNS_WORDS, beside, must_take_turns
from quantchat.comparing.versions import versions
from quantchat.engine.api import Engine
from quantchat.errors import EngineError, QuantchatError
from quantchat.events import (
    Done,
    EngineStopped,
    Event,
    Failed,
    Loaded,
    LoadFailed,
    LoadProgress,
    ModelInfo,
    Notice,
    PrefillProgress,
    Scored,
    Token,
    TokenScore,
    Unloaded,
)
from quantchat.requests import ChatRequest, LoadRequest, Message, Sampling, ScoreRequest, Slot

LEFT, RIGHT = "left", "right"
WAIT_S = 0.5
MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is compared; the loads' slots are the runner's."""

    left: LoadRequest
    right: LoadRequest
    messages: tuple[Message, ...]
    sampling: Sampling
    max_tokens: int
    mode: Literal["free", "guided"]


@dataclass(slots=True, kw_only=True)
class Writing:
    """An answer as it comes."""

    pieces: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)

    def ended(self, done: Done) -> Answer:
        """All of it; text that no token carried is added to the last one."""
        written = "".join(self.pieces)
        if self.pieces and done.text.startswith(written):
            self.pieces[-1] += done.text[len(written) :]
        return Answer(
            text=done.text,
            token_ids=tuple(self.ids),
            pieces=tuple(self.pieces),
            finish_reason=done.finish_reason,
            metrics=done.metrics,
        )


class Runner:
    """Runs one wish; `draw` gets what is done, how far and of how much, `say` what stays."""

    def __init__(
        self,
        engine: Engine,
        wish: Wish,
        *,
        draw: Callable[[str, int, int], None],
        say: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._wish = wish
        self._draw = draw
        self._say = say
        self._sampling = seeded(wish.sampling)
        self._infos: dict[Slot, ModelInfo] = {}
        self._took_turns = False

    def run(self) -> Comparison:
        """Load, answer, score; raises QuantchatError with what went wrong."""
        left = self._load(LEFT, self._wish.left)
        assert left is not None
        right_wish = beside(self._wish.right, left)
        self._took_turns = self._load(RIGHT, right_wish, other_loaded=True) is None
        if self._took_turns:
            self._say(TURNS_WORDS)
        written = self._answer(LEFT)
        kept = 0
        if self._took_turns:
            if self._wish.mode == "guided" and written.token_ids:
                kept, _ = self._scored(LEFT, written, "reading what it wrote")
            self._unload(LEFT)
            self._load(RIGHT, right_wish)
        round_ = self._free(written) if self._wish.mode == "free" else self._guided(written, kept)
        return Comparison(
            left=left,
            right=self._infos[RIGHT],
            rounds=(round_,),
            took_turns=self._took_turns,
            made_s=time.time(),
            versions=versions(),
        )

    def _free(self, written: Answer) -> Round:
        return Round(
            mode="free",
            messages=self._wish.messages,
            sampling=self._sampling,
            left=written,
            right=self._answer(RIGHT),
        )

    def _guided(self, written: Answer, kept: int) -> Round:
        scores: tuple[TokenScore, ...] = ()
        if written.token_ids:
            base = "" if kept else LEFT
            _, scores = self._scored(RIGHT, written, "scoring", base=base, kept=kept)
        return Round(
            mode="guided",
            messages=self._wish.messages,
            sampling=self._sampling,
            left=written,
            right=None,
            scores=scores,
        )

    def _load(
        self, slot: Slot, wish: LoadRequest, *, other_loaded: bool = False
    ) -> ModelInfo | None:
        """The loaded model; None where it does not fit beside the other."""
        label = f"{slot}, {wish.scheme}"
        load_id = self._engine.load(replace(wish, slot=slot))
        while True:
            for event in self._events():
                if isinstance(event, LoadProgress) and event.load_id == load_id:
                    of_bytes = event.total > MIB
                    scale, unit = (MIB, ", MiB") if of_bytes else (1, "")
                    words = f"{label}: {event.phase}{unit}"
                    self._draw(words, event.done // scale, event.total // scale)
                elif isinstance(event, Loaded) and event.load_id == load_id:
                    self._infos[slot] = event.info
                    return event.info
                elif isinstance(event, LoadFailed) and event.load_id == load_id:
                    if must_take_turns(event, other_loaded=other_loaded):
                        return None
                    raise QuantchatError(f"{label}: {event.message}", hint=event.hint)

    def _unload(self, slot: Slot) -> None:
        self._engine.unload(slot)
        while not any(isinstance(e, Unloaded) and e.slot == slot for e in self._events()):
            pass

    def _answer(self, slot: Slot) -> Answer:
        wish = self._wish
        label = f"{slot}, {self._infos[slot].scheme}"
        longest = wish.max_tokens or self._infos[slot].context_tokens
        writing = Writing()
        request_id = self._engine.chat(
            ChatRequest(
                slot=slot,
                messages=wish.messages,
                sampling=self._sampling,
                max_tokens=wish.max_tokens,
            )
        )
        while True:
            for event in self._events():
                if isinstance(event, PrefillProgress):
                    self._draw(f"{label}: reading", event.done_tokens, event.total_tokens)
                elif isinstance(event, Notice):
                    self._say(f"{label}: {event.message}")
                elif isinstance(event, Token):
                    writing.pieces.append(event.text)
                    writing.ids.append(event.token_id)
                    self._draw(f"{label}: writing", len(writing.ids), longest)
                elif isinstance(event, Failed) and event.request_id == request_id:
                    raise QuantchatError(f"{label}: {event.message}", hint=event.hint)
                elif isinstance(event, Done) and event.request_id == request_id:
                    return writing.ended(event)

    def _scored(
        self, slot: Slot, written: Answer, doing: str, *, base: Slot = "", kept: int = 0
    ) -> tuple[int, tuple[TokenScore, ...]]:
        """The request's id and a score of each token, exact."""
        label = f"{slot}, {self._infos[slot].scheme}"
        scores: list[TokenScore] = []
        request_id = self._engine.score(
            ScoreRequest(
                slot=slot,
                messages=self._wish.messages,
                answer_ids=written.token_ids,
                base=base,
                kept=kept,
                exact=True,
            )
        )
        while True:
            for event in self._events():
                if isinstance(event, Failed) and event.request_id == request_id:
                    raise QuantchatError(f"{label}: {event.message}", hint=event.hint)
                if isinstance(event, Scored) and event.request_id == request_id:
                    scores += event.scores
                    self._draw(f"{label}: {doing}", len(scores), len(written.token_ids))
                    if event.done:
                        return request_id, tuple(scores)

    def _events(self) -> list[Event]:
        events = self._engine.wait(WAIT_S)
        for event in events:
            if isinstance(event, EngineStopped):
                raise EngineError(event.message or "the engine stopped", hint=event.hint)
        return events
