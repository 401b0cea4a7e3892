"""An engine with the shape of decode beside a card: drawing measured against it without one.

One thread: for every token some Python that holds the interpreter, then a wait that does not, as a
kernel's is. What the app costs shows in the rate that is left.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from dataclasses import dataclass

from quantchat.bench.scripted import (
    NO_MEMORY,
    STATS_INTERVAL_S,
    loaded,
    metrics_of,
    pieces_of,
    started,
    token,
    unscored,
)
from quantchat.engine.event_queue import EventQueue
from quantchat.engine.session import SWITCH_INTERVAL_S
from quantchat.events import Done, EngineStopped, Event, FinishReason, Metrics, Stats, Unloaded
from quantchat.requests import ChatRequest, LoadRequest, ScoreRequest, Slot

HOST_S = 0.15e-3
"""Python of a step beside a card: a replay, a token read back, its text, its events."""
CALIBRATION_ROUNDS = 40
IDLE_POLL_S = 0.05


@dataclass(slots=True)
class _Answer:
    request_id: int
    slot: Slot
    tokens: int
    started_s: float
    first_s: float = 0.0
    said: int = 0
    cancelled: bool = False


class PacedEngine:
    """Implements `quantchat.engine.api.Engine`; says `text` again and again, `max_tokens` long."""

    def __init__(self, text: str, tok_per_s: float) -> None:
        self._pieces = pieces_of(text)
        self._wait_s = max(0.0, 1 / tok_per_s - HOST_S)
        self._loops = loops_of(HOST_S)
        self._events = EventQueue()
        self._emit = self._events.put
        self._ids = itertools.count(1)
        self._answers: dict[int, _Answer] = {}
        self._asked = threading.Event()
        self._closed = False
        self._stats_due_s = 0.0
        self._thread = threading.Thread(target=self._run, name="paced-engine", daemon=True)
        self._thread.start()

    def load(self, request: LoadRequest) -> int:
        """See Engine.load; there at once."""
        load_id = next(self._ids)
        self._emit(loaded(request, load_id, "cuda"))
        return load_id

    def cancel_load(self, slot: Slot) -> None:
        """See Engine.cancel_load; there is never one under way."""

    def unload(self, slot: Slot) -> None:
        """See Engine.unload."""
        for answer in list(self._answers.values()):
            answer.cancelled = answer.cancelled or answer.slot == slot
        self._emit(Unloaded(slot=slot, time_s=time.perf_counter()))

    def chat(self, request: ChatRequest) -> int:
        """See Engine.chat."""
        request_id, now_s = next(self._ids), time.perf_counter()
        self._emit(started(request_id, request.slot, now_s))
        tokens = request.max_tokens or len(self._pieces)
        self._answers[request_id] = _Answer(request_id, request.slot, tokens, now_s)
        self._asked.set()
        return request_id

    def score(self, request: ScoreRequest) -> int:
        """See Engine.score; ends at once, nothing is known of any token."""
        request_id = next(self._ids)
        self._emit(unscored(request_id, request))
        return request_id

    def cancel(self, request_id: int) -> None:
        """See Engine.cancel."""
        answer = self._answers.get(request_id)
        if answer is not None:
            answer.cancelled = True

    def drain(self) -> list[Event]:
        """See Engine.drain."""
        return self._events.drain()

    def wait(self, timeout_s: float) -> list[Event]:
        """See Engine.wait."""
        return self._events.wait(timeout_s)

    def close(self) -> None:
        """See Engine.close."""
        self._closed = True
        self._asked.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        while not self._closed:
            if not self._answers:
                self._asked.wait(IDLE_POLL_S)
                self._asked.clear()
                continue
            for answer in list(self._answers.values()):
                self._step(answer)
        self._emit(EngineStopped(message="", hint="", time_s=time.perf_counter()))

    def _step(self, answer: _Answer) -> None:
        spin(self._loops)
        time.sleep(self._wait_s)
        now_s = time.perf_counter()
        answer.first_s = answer.first_s or now_s
        piece = self._pieces[answer.said % len(self._pieces)]
        self._emit(token(answer.request_id, answer.slot, answer.said, piece, now_s))
        answer.said += 1
        if answer.cancelled or answer.said >= answer.tokens:
            self._finish(answer, now_s)
        elif now_s >= self._stats_due_s:
            self._stats_due_s = now_s + STATS_INTERVAL_S
            self._emit(
                Stats(
                    request_id=answer.request_id,
                    slot=answer.slot,
                    metrics=_metrics(answer, now_s),
                    memory=NO_MEMORY,
                    time_s=now_s,
                )
            )

    def _finish(self, answer: _Answer, now_s: float) -> None:
        del self._answers[answer.request_id]
        reason: FinishReason = "cancelled" if answer.cancelled else "length"
        text = "".join(self._pieces[at % len(self._pieces)] for at in range(answer.said))
        self._emit(
            Done(
                request_id=answer.request_id,
                slot=answer.slot,
                finish_reason=reason,
                text=text,
                metrics=_metrics(answer, now_s),
                memory=NO_MEMORY,
                time_s=now_s,
            )
        )


def _metrics(answer: _Answer, now_s: float) -> Metrics:
    rate = (answer.said - 1) / (now_s - answer.first_s) if now_s > answer.first_s else 0.0
    return metrics_of(answer.said, 1 / rate if rate else 0.0, rate, now_s - answer.started_s)


def spin(loops: int) -> int:
    """Python that does nothing else; the same work however often it is interrupted."""
    total = 0
    for at in range(loops):
        total += at & 7
    return total


def loops_of(seconds: float) -> int:
    """How many loops of `spin` take so long on this machine when nothing else runs."""
    loops = 2000
    fastest_s = float("inf")
    for _ in range(CALIBRATION_ROUNDS):
        begun_s = time.perf_counter()
        spin(loops)
        fastest_s = min(fastest_s, time.perf_counter() - begun_s)
    return max(1, int(loops * seconds / fastest_s))
