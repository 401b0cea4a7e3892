"""An engine that says a prepared text at a set rate: drawing measured without decoding.

Events come by the clock when they are asked for; no thread, no torch. Answers in two slots run
beside each other, each at the whole rate.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from quantchat.events import (
    Done,
    Event,
    FinishReason,
    GapTrace,
    Loaded,
    MemoryUse,
    Metrics,
    ModelInfo,
    Scored,
    Started,
    Stats,
    Token,
    Unloaded,
)
from quantchat.requests import ChatRequest, LoadRequest, ScoreRequest, Slot

PIECE_CHARS = 4
"""About what a token is worth in English and in code."""
STATS_INTERVAL_S = 0.2
CONTEXT_TOKENS = 8192
RECENT_GAPS = 64
TRACE_RUNS = 256


@dataclass(slots=True)
class _Answer:
    request_id: int
    slot: Slot
    started_s: float
    said: int = 0
    stats_due_s: float = 0.0
    cancelled: bool = False


class ScriptedEngine:
    """Implements `quantchat.engine.api.Engine`; the texts are said in turn, then again."""

    def __init__(self, texts: str | Sequence[str], tok_per_s: float, *, device: str = "cpu"):
        self._scripts = [pieces_of(text) for text in ([texts] if isinstance(texts, str) else texts)]
        self.tok_per_s = tok_per_s
        """Of each answer; may be changed between answers."""
        self._device = device
        self._events: deque[Event] = deque()
        self._ids = itertools.count(1)
        self._asked = 0
        self._answers: dict[int, _Answer] = {}
        self._pieces: dict[int, list[str]] = {}

    def load(self, request: LoadRequest) -> int:
        """See Engine.load; there at once."""
        load_id = next(self._ids)
        self._events.append(loaded(request, load_id, self._device))
        return load_id

    def cancel_load(self, slot: Slot) -> None:
        """See Engine.cancel_load; there is never one under way."""

    def unload(self, slot: Slot) -> None:
        """See Engine.unload."""
        for answer in self._answers.values():
            answer.cancelled = answer.cancelled or answer.slot == slot
        self._events.append(Unloaded(slot=slot, time_s=time.perf_counter()))

    def chat(self, request: ChatRequest) -> int:
        """See Engine.chat."""
        request_id, now_s = next(self._ids), time.perf_counter()
        self._answers[request_id] = _Answer(request_id, request.slot, now_s)
        self._pieces[request_id] = self._scripts[self._asked % len(self._scripts)]
        self._asked += 1
        self._events.append(started(request_id, request.slot, now_s))
        return request_id

    def score(self, request: ScoreRequest) -> int:
        """See Engine.score; ends at once, nothing is known of any token."""
        request_id = next(self._ids)
        self._events.append(unscored(request_id, request))
        return request_id

    def cancel(self, request_id: int) -> None:
        """See Engine.cancel."""
        if request_id in self._answers:
            self._answers[request_id].cancelled = True

    def drain(self) -> list[Event]:
        """See Engine.drain."""
        for answer in list(self._answers.values()):
            self._speak(answer, self._pieces[answer.request_id])
        events = list(self._events)
        self._events.clear()
        return events

    def wait(self, timeout_s: float) -> list[Event]:
        """See Engine.wait."""
        until_s = time.perf_counter() + timeout_s
        while not (events := self.drain()) and time.perf_counter() < until_s:
            time.sleep(1 / self.tok_per_s)
        return events

    def close(self) -> None:
        """See Engine.close."""
        self._answers.clear()
        self._pieces.clear()

    def _speak(self, answer: _Answer, pieces: list[str]) -> None:
        now_s = time.perf_counter()
        due = min(len(pieces), int((now_s - answer.started_s) * self.tok_per_s))
        for index in range(answer.said, due):
            self._events.append(token(answer.request_id, answer.slot, index, pieces[index], now_s))
        answer.said = max(answer.said, due)
        if answer.said == len(pieces) or answer.cancelled:
            del self._answers[answer.request_id], self._pieces[answer.request_id]
            reason: FinishReason = "cancelled" if answer.cancelled else "stop"
            self._events.append(
                Done(
                    request_id=answer.request_id,
                    slot=answer.slot,
                    finish_reason=reason,
                    text="".join(pieces[: answer.said]),
                    metrics=self._metrics(answer, now_s),
                    memory=NO_MEMORY,
                    time_s=now_s,
                )
            )
        elif now_s >= answer.stats_due_s:
            answer.stats_due_s = now_s + STATS_INTERVAL_S
            self._events.append(
                Stats(
                    request_id=answer.request_id,
                    slot=answer.slot,
                    metrics=self._metrics(answer, now_s),
                    memory=NO_MEMORY,
                    time_s=now_s,
                )
            )

    def _metrics(self, answer: _Answer, now_s: float) -> Metrics:
        elapsed_s = now_s - answer.started_s
        return metrics_of(answer.said, 1 / self.tok_per_s, self.tok_per_s, elapsed_s)


def pieces_of(text: str) -> list[str]:
    """A text in pieces of about a token."""
    return [text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS)]


def loaded(request: LoadRequest, load_id: int, device: str) -> Loaded:
    """A model of nothing, loaded at once."""
    info = ModelInfo(
        slot=request.slot,
        model=request.model,
        path="",
        architecture="scripted",
        parameters=1,
        scheme="fp16" if request.scheme == "auto" else request.scheme,
        scheme_detail="16-bit",
        kv="16bit" if request.kv == "auto" else request.kv,
        device=device,
        device_name=device,
        context_tokens=CONTEXT_TOKENS,
        weight_bytes=0,
        bits_per_weight=16,
        load_s=0,
        identity="scripted",
        read_bytes_per_s=1e9,
        kv_bytes_per_token=0,
    )
    return Loaded(
        slot=request.slot,
        load_id=load_id,
        info=info,
        memory=NO_MEMORY,
        time_s=time.perf_counter(),
    )


def started(request_id: int, slot: Slot, now_s: float) -> Started:
    """A request leaves the queue."""
    return Started(
        request_id=request_id,
        slot=slot,
        prompt_tokens=1,
        cached_tokens=0,
        context_tokens_max=CONTEXT_TOKENS,
        seed=0,
        time_s=now_s,
    )


def token(request_id: int, slot: Slot, index: int, text: str, now_s: float) -> Token:
    """A piece of the text."""
    return Token(
        request_id=request_id, slot=slot, index=index, token_id=index, text=text, time_s=now_s
    )


def unscored(request_id: int, request: ScoreRequest) -> Scored:
    """The end of a scoring in which nothing is known of any token."""
    return Scored(
        request_id=request_id,
        slot=request.slot,
        first=request.first,
        scores=(),
        exact=False,
        done=True,
        time_s=time.perf_counter(),
    )


def metrics_of(said: int, gap_s: float, tok_per_s: float, elapsed_s: float) -> Metrics:
    """Latency of an answer that comes evenly."""
    return Metrics(
        prompt_tokens=1,
        cached_tokens=0,
        completion_tokens=said,
        context_tokens=said + 1,
        context_tokens_max=CONTEXT_TOKENS,
        queue_s=0,
        template_s=0,
        prefill_s=0,
        first_sample_s=0,
        ttft_s=gap_s,
        itl_p50_s=gap_s,
        itl_p95_s=gap_s,
        itl_max_s=gap_s,
        itl_recent_s=(gap_s,) * min(said, RECENT_GAPS),
        itl_trace=_trace(gap_s, said - 1),
        prefill_tok_per_s=0,
        decode_tok_per_s=tok_per_s,
        e2e_s=elapsed_s,
        read_bytes_per_token=0,
        decode_joules=None,
    )


def _trace(gap_s: float, gaps: int) -> GapTrace:
    """As long as a real answer's, so that it costs the screen as much."""
    run_tokens = 1
    while gaps > run_tokens * TRACE_RUNS:
        run_tokens *= 2
    runs = (gap_s,) * max(0, -(-gaps // run_tokens))
    return GapTrace(run_tokens=run_tokens, mean_s=runs, max_s=runs)


NO_MEMORY = MemoryUse(
    weight_bytes=0,
    kv_used_bytes=0,
    kv_reserved_bytes=0,
    workspace_bytes=0,
    peak_bytes=0,
    process_bytes=0,
    device_total_bytes=1,
    device_free_bytes=1,
    others_bytes=0,
)
"""Nothing is held."""


def long_answer(code_lines: int = 300, *, items: int = 40, rows: int = 30) -> str:
    """Prose, a list, a table and a long code block, as a model might write them."""
    steps = [
        f"- **Step {i}** of the plan: check `part_{i}` and note what was found"
        for i in range(items)
    ]
    cells = [
        f"| row {i} | {i * 37 % 101} | `value_{i}` | some words about it |" for i in range(rows)
    ]
    code = [
        f"    total_{i} = weigh(parts[{i}], scale={i % 7}.5) + {i}  # the sum of part {i}"
        for i in range(code_lines - 1)
    ]
    return "\n".join(
        (
            "Here is the whole plan, step by step.\n",
            *steps,
            "\n## Figures\n",
            "| name | number | code | note |\n|---|---|---|---|",
            *cells,
            "\nAnd the program:\n\n```python\ndef weigh_all(parts):",
            *code,
            "```\n\nThat is all there is to it.",
        )
    )
