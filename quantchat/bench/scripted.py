"""An engine that says a prepared text at a set rate: drawing measured without decoding.

Events come by the clock when they are asked for; no thread, no torch.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from dataclasses import dataclass

from quantchat.events import (
    Done,
    Event,
    FinishReason,
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


@dataclass(slots=True)
class _Answer:
    request_id: int
    slot: Slot
    started_s: float
    said: int = 0
    stats_due_s: float = 0.0
    cancelled: bool = False


class ScriptedEngine:
    """Implements `quantchat.engine.api.Engine`."""

    def __init__(self, text: str, tok_per_s: float) -> None:
        self._pieces = [text[i : i + PIECE_CHARS] for i in range(0, len(text), PIECE_CHARS)]
        self._tok_per_s = tok_per_s
        self._events: deque[Event] = deque()
        self._ids = itertools.count(1)
        self._answer: _Answer | None = None

    def load(self, request: LoadRequest) -> int:
        """See Engine.load; there at once."""
        load_id = next(self._ids)
        info = ModelInfo(
            slot=request.slot,
            model=request.model,
            path="",
            architecture="scripted",
            parameters=1,
            scheme="fp16",
            scheme_detail="16-bit",
            kv="16bit",
            device="cpu",
            device_name="cpu",
            context_tokens=CONTEXT_TOKENS,
            weight_bytes=0,
            bits_per_weight=16,
            load_s=0,
        )
        now_s = time.perf_counter()
        self._events.append(
            Loaded(slot=request.slot, load_id=load_id, info=info, memory=NO_MEMORY, time_s=now_s)
        )
        return load_id

    def cancel_load(self, slot: Slot) -> None:
        """See Engine.cancel_load; there is never one under way."""

    def unload(self, slot: Slot) -> None:
        """See Engine.unload."""
        self._events.append(Unloaded(slot=slot, time_s=time.perf_counter()))

    def chat(self, request: ChatRequest) -> int:
        """See Engine.chat; one answer at a time."""
        request_id, now_s = next(self._ids), time.perf_counter()
        self._answer = _Answer(request_id, request.slot, now_s)
        self._events.append(
            Started(
                request_id=request_id,
                slot=request.slot,
                prompt_tokens=1,
                cached_tokens=0,
                context_tokens_max=CONTEXT_TOKENS,
                seed=0,
                time_s=now_s,
            )
        )
        return request_id

    def score(self, request: ScoreRequest) -> int:
        """See Engine.score; ends at once, nothing is known of any token."""
        request_id = next(self._ids)
        self._events.append(
            Scored(
                request_id=request_id,
                slot=request.slot,
                first=request.first,
                scores=(),
                exact=False,
                done=True,
                time_s=time.perf_counter(),
            )
        )
        return request_id

    def cancel(self, request_id: int) -> None:
        """See Engine.cancel."""
        if self._answer is not None and self._answer.request_id == request_id:
            self._answer.cancelled = True

    def drain(self) -> list[Event]:
        """See Engine.drain."""
        if self._answer is not None:
            self._speak(self._answer)
        events = list(self._events)
        self._events.clear()
        return events

    def wait(self, timeout_s: float) -> list[Event]:
        """See Engine.wait."""
        until_s = time.perf_counter() + timeout_s
        while not (events := self.drain()) and time.perf_counter() < until_s:
            time.sleep(1 / self._tok_per_s)
        return events

    def close(self) -> None:
        """See Engine.close."""
        self._answer = None

    def _speak(self, answer: _Answer) -> None:
        now_s = time.perf_counter()
        due = min(len(self._pieces), int((now_s - answer.started_s) * self._tok_per_s))
        for index in range(answer.said, due):
            self._events.append(
                Token(
                    request_id=answer.request_id,
                    slot=answer.slot,
                    index=index,
                    token_id=index,
                    text=self._pieces[index],
                    time_s=now_s,
                )
            )
        answer.said = due
        if due == len(self._pieces) or answer.cancelled:
            self._answer = None
            self._events.append(self._done(answer, now_s))
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

    def _done(self, answer: _Answer, now_s: float) -> Done:
        reason: FinishReason = "cancelled" if answer.cancelled else "stop"
        return Done(
            request_id=answer.request_id,
            slot=answer.slot,
            finish_reason=reason,
            text="".join(self._pieces[: answer.said]),
            metrics=self._metrics(answer, now_s),
            memory=NO_MEMORY,
            time_s=now_s,
        )

    def _metrics(self, answer: _Answer, now_s: float) -> Metrics:
        gap_s = 1 / self._tok_per_s
        return Metrics(
            prompt_tokens=1,
            cached_tokens=0,
            completion_tokens=answer.said,
            context_tokens=answer.said + 1,
            context_tokens_max=CONTEXT_TOKENS,
            queue_s=0,
            template_s=0,
            prefill_s=0,
            first_sample_s=0,
            ttft_s=gap_s,
            itl_p50_s=gap_s,
            itl_p95_s=gap_s,
            itl_max_s=gap_s,
            itl_recent_s=(gap_s,) * min(answer.said, RECENT_GAPS),
            prefill_tok_per_s=0,
            decode_tok_per_s=self._tok_per_s,
            e2e_s=now_s - answer.started_s,
        )


NO_MEMORY = MemoryUse(
    weight_bytes=0,
    kv_used_bytes=0,
    kv_reserved_bytes=0,
    workspace_bytes=0,
    peak_bytes=0,
    process_bytes=0,
    device_total_bytes=1,
    device_free_bytes=1,
)
"""Nothing is held."""


def long_answer(code_lines: int = 300) -> str:
    """Prose, a list, a table and a long code block, as a model might write them."""
    items = [
        f"- **Step {i}** of the plan: check `part_{i}` and note what was found" for i in range(40)
    ]
    rows = [f"| row {i} | {i * 37 % 101} | `value_{i}` | some words about it |" for i in range(30)]
    code = [
        f"    total_{i} = weigh(parts[{i}], scale={i % 7}.5) + {i}  # the sum of part {i}"
        for i in range(code_lines - 1)
    ]
    return "\n".join(
        (
            "Here is the whole plan, step by step.\n",
            *items,
            "\n## Figures\n",
            "| name | number | code | note |\n|---|---|---|---|",
            *rows,
            "\nAnd the program:\n\n```python\ndef weigh_all(parts):",
            *code,
            "```\n\nThat is all there is to it.",
        )
    )
