"""Doubles that screens and commands are tested with: an engine that follows a script.

The fake moves only when it is drained, so a test decides how far an answer has come.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from fake_facts import BITS, memory_use, metrics_of, model_info
from fake_scores import FakeScores, Vocabulary

from quantchat.events import (
    Done,
    EngineStopped,
    Event,
    Failed,
    FinishReason,
    Loaded,
    LoadFailed,
    LoadPhase,
    LoadProgress,
    ModelInfo,
    Notice,
    PrefillProgress,
    Started,
    Stats,
    Token,
    Unloaded,
)
from quantchat.requests import ChatRequest, LoadRequest, ScoreRequest, Slot, WayOut

PHASES: tuple[LoadPhase, ...] = ("import", "read", "quantize", "upload", "warm")
CALIBRATED: tuple[LoadPhase, ...] = ("import", "read", "sample", "calibrate", "upload", "warm")


@dataclass
class Script:
    """One answer: its tokens, and what goes wrong."""

    text: str | Sequence[str] = "The sky is blue."
    fail_after: int | None = None
    message: str = "not enough memory for the KV cache"
    hint: str = "choose int8 KV or a shorter context"
    ways: tuple[WayOut, ...] = ()
    finish: FinishReason = "stop"
    notice: str = ""
    endless: bool = False

    def tokens(self) -> list[str]:
        """The text in pieces of about a word."""
        if not isinstance(self.text, str):
            return list(self.text)
        pieces: list[str] = []
        for word in self.text.split(" "):
            pieces.append(word if not pieces else " " + word)
        return pieces


@dataclass
class _Answer:
    request_id: int
    request: ChatRequest
    script: Script
    pieces: list[str]
    started: float
    at: int = 0
    text: str = ""
    begun: bool = False
    cancelled: bool = False


@dataclass
class _Load:
    load_id: int
    request: LoadRequest
    step: int = 0
    cancelled: bool = False


@dataclass
class FakeEngine:
    """Implements `quantchat.engine.api.Engine`; `scripts` are used in turn, the last one again."""

    scripts: list[Script] = field(default_factory=lambda: [Script()])
    tokens_per_drain: int = 4
    tok_per_s: float | None = None
    """Emit by the clock instead, for using the app by hand."""
    load_s: float = 0.0
    hold_loads: bool = False
    """Loads stay in the phase they are in until this is False."""
    hold_phase: LoadPhase | None = None
    """Loads stay in this phase until it is None."""
    hold_answers: bool = False
    hold_after: int | None = None
    """Answers that have so many tokens get no more until it is None."""
    load_failures: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Scheme or model -> message and hint of a LoadFailed."""
    most_models: int = 0
    """Models that fit at once; one more is refused for want of memory. 0: any number."""
    load_ways: tuple[WayOut, ...] = ()
    """Of every LoadFailed."""
    context_tokens: int = 2048
    notes: tuple[str, ...] = ()
    """Of every loaded model."""

    def __post_init__(self) -> None:
        self.loads: list[LoadRequest] = []
        self.chats: list[ChatRequest] = []
        self.unloaded: list[Slot] = []
        self.infos: dict[Slot, ModelInfo] = {}
        self.closed = False
        self._events: deque[Event] = deque()
        self._pending: list[_Load] = []
        self._answers: list[_Answer] = []
        self._ids = 0
        self._load_started = 0.0
        self.vocabulary = Vocabulary()
        self.scores = FakeScores(self.vocabulary)
        """What was asked to be scored, and how it goes: `held`, `failure`, `tokens_per_drain`."""

    def load(self, request: LoadRequest) -> int:
        """Queue a load."""
        self._ids += 1
        self.loads.append(request)
        self._pending.append(_Load(self._ids, request))
        self._load_started = time.perf_counter()
        return self._ids

    def cancel_load(self, slot: Slot) -> None:
        """The pending load of the slot ends at the next drain."""
        for load in self._pending:
            load.cancelled = load.cancelled or load.request.slot == slot

    def unload(self, slot: Slot) -> None:
        """Empty the slot at once."""
        self.unloaded.append(slot)
        self.infos.pop(slot, None)
        self._pending = [load for load in self._pending if load.request.slot != slot]
        self._events.append(Unloaded(slot=slot, time_s=time.perf_counter()))

    def chat(self, request: ChatRequest) -> int:
        """Queue an answer by the next script."""
        self._ids += 1
        self.chats.append(request)
        script = self.scripts[min(len(self.chats) - 1, len(self.scripts) - 1)]
        now = time.perf_counter()
        self._answers.append(_Answer(self._ids, request, script, script.tokens(), now))
        return self._ids

    def score(self, request: ScoreRequest) -> int:
        """Queue a scoring."""
        self._ids += 1
        self.scores.add(self._ids, request)
        return self._ids

    def cancel(self, request_id: int) -> None:
        """The answer or scoring ends at the next drain."""
        self.scores.cancel(request_id)
        for answer in self._answers:
            answer.cancelled = answer.cancelled or answer.request_id == request_id

    def die(
        self, message: str = "the engine thread ended", hint: str = "start the app again"
    ) -> None:
        """Stop as a crashed engine does: running answers fail first."""
        for answer in self._answers:
            self._events.append(self._failed(answer, message, hint))
        self._answers.clear()
        self._events.append(EngineStopped(message=message, hint=hint, time_s=time.perf_counter()))

    def drain(self) -> list[Event]:
        """Take a step of everything that runs; its events."""
        for load in list(self._pending):
            self._step_load(load)
        for answer in list(self._answers):
            self._step_answer(answer)
        self._events.extend(self.scores.drain(self.infos))
        events = list(self._events)
        self._events.clear()
        return events

    def wait(self, timeout_s: float) -> list[Event]:
        """Drain; sleeps a little when there is nothing."""
        events = self.drain()
        if not events:
            time.sleep(min(timeout_s, 0.005))
            events = self.drain()
        return events

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    def push(self, events: Iterable[Event]) -> None:
        """Put events of the test's own into the next drain."""
        self._events.extend(events)

    def _step_load(self, load: _Load) -> None:
        now = time.perf_counter()
        request = load.request
        if load.cancelled:
            self._pending.remove(load)
            self._events.append(
                LoadFailed(
                    slot=request.slot,
                    load_id=load.load_id,
                    message="load cancelled",
                    hint="",
                    cancelled=True,
                    time_s=now,
                )
            )
            return
        phases = CALIBRATED if request.scheme == "awq" else PHASES
        waits = now - self._load_started < self.load_s * load.step / len(phases)
        if load.step < len(phases):
            phase = phases[load.step]
            total = 96 * 2**20
            self._events.append(
                LoadProgress(
                    slot=request.slot,
                    load_id=load.load_id,
                    phase=phase,
                    done=total * (load.step + 1) // (len(phases) + 1),
                    total=total,
                    time_s=now,
                )
            )
            held = self.hold_loads or phase == self.hold_phase
            load.step += 0 if held or waits else 1
            return
        self._pending.remove(load)
        failure = self.load_failures.get(request.scheme) or self.load_failures.get(request.model)
        if failure is not None:
            message, hint = failure
            self._events.append(
                LoadFailed(
                    slot=request.slot,
                    load_id=load.load_id,
                    message=message,
                    hint=hint,
                    ways=self.load_ways,
                    time_s=now,
                )
            )
            return
        others = len([slot for slot in self.infos if slot != request.slot])
        if self.most_models and others >= self.most_models:
            self._events.append(
                LoadFailed(
                    slot=request.slot,
                    load_id=load.load_id,
                    message="0.5 GiB are needed and 0.1 GiB are free",
                    hint="choose int4",
                    lacks_memory=True,
                    time_s=now,
                )
            )
            return
        info = replace(model_info(request, self.context_tokens), notes=self.notes)
        if request.slot in self.infos:
            info = replace(info, reasons=("context: computed anew with the next answer",))
        self.infos[request.slot] = info
        self._events.append(
            Loaded(
                slot=request.slot,
                load_id=load.load_id,
                info=info,
                memory=memory_use(info),
                time_s=now,
            )
        )

    def _step_answer(self, answer: _Answer) -> None:
        now = time.perf_counter()
        request, script = answer.request, answer.script
        info = self.infos.get(request.slot)
        if info is None:
            self._answers.remove(answer)
            self._events.append(self._failed(answer, "no model is loaded", "load one first"))
            return
        if not answer.begun:
            self._begin(answer, info, now)
        if answer.cancelled:
            self._finish(answer, info, "cancelled")
            return
        if self.hold_answers:
            return
        for _ in range(self._due(answer, now)):
            if script.fail_after is not None and answer.at >= script.fail_after:
                self._answers.remove(answer)
                self._events.append(self._failed(answer, script.message, script.hint))
                return
            if answer.at >= len(answer.pieces) and not script.endless:
                self._finish(answer, info, script.finish)
                return
            piece = answer.pieces[answer.at % len(answer.pieces)]
            self._events.append(
                Token(
                    request_id=answer.request_id,
                    slot=request.slot,
                    index=answer.at,
                    token_id=self.vocabulary.id_of(piece),
                    text=piece,
                    time_s=now,
                )
            )
            answer.text += piece
            answer.at += 1
        self._events.append(
            Stats(
                request_id=answer.request_id,
                slot=request.slot,
                metrics=metrics_of(answer.at, info, self.tok_per_s),
                memory=memory_use(info, answer.at),
                time_s=now,
            )
        )

    def _due(self, answer: _Answer, now: float) -> int:
        if self.hold_after is not None and answer.at >= self.hold_after:
            return 0
        if self.tok_per_s is None:
            return self.tokens_per_drain
        speed = self.tok_per_s * 16.0 / BITS.get(self.infos[answer.request.slot].scheme, 8.0)
        return max(0, int((now - answer.started) * speed) - answer.at)

    def _begin(self, answer: _Answer, info: ModelInfo, now: float) -> None:
        answer.begun = True
        prompt = sum(len(message.content.split()) + 4 for message in answer.request.messages)
        key, slot = answer.request_id, answer.request.slot
        self._events.append(
            Started(
                prompt_tokens=prompt,
                cached_tokens=0,
                context_tokens_max=info.context_tokens,
                seed=1,
                request_id=key,
                slot=slot,
                time_s=now,
            )
        )
        self._events.append(
            PrefillProgress(
                request_id=key, slot=slot, done_tokens=prompt, total_tokens=prompt, time_s=now
            )
        )
        notice = answer.script.notice
        if notice:
            self._events.append(
                Notice(request_id=key, slot=slot, kind="context", message=notice, time_s=now)
            )

    def _finish(self, answer: _Answer, info: ModelInfo, reason: FinishReason) -> None:
        self._answers.remove(answer)
        self._events.append(
            Done(
                request_id=answer.request_id,
                slot=answer.request.slot,
                finish_reason=reason,
                text=answer.text,
                metrics=metrics_of(answer.at, info, self.tok_per_s),
                memory=memory_use(info, answer.at),
                time_s=time.perf_counter(),
            )
        )

    def _failed(self, answer: _Answer, message: str, hint: str) -> Failed:
        return Failed(
            request_id=answer.request_id,
            slot=answer.request.slot,
            message=message,
            hint=hint,
            text=answer.text,
            ways=answer.script.ways,
            time_s=time.perf_counter(),
        )
