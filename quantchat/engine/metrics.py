"""Latency of one request, stamped in the engine (`time.perf_counter`).

TTFT runs from submit to the first token and is the sum of its parts; ITL is the gap between two
tokens; decode speed counts the tokens after the first. A token costs the clock the same at any
length of the answer.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from dataclasses import dataclass, field

from quantchat.events import GapTrace, Metrics

RECENT_GAPS = 64
TRACE_RUNS = 256
"""Runs of gaps that are kept of an answer at most; then two neighbours become one."""


@dataclass(slots=True)
class GapRuns:
    """Sums and maxima of runs of gaps, twice as long each time there are too many of them."""

    run_tokens: int = 1
    sums_s: list[float] = field(default_factory=list)
    max_s: list[float] = field(default_factory=list)
    gaps: int = 0

    def add(self, gap_s: float) -> None:
        """One more gap."""
        if self.gaps % self.run_tokens:
            self.sums_s[-1] += gap_s
            self.max_s[-1] = max(self.max_s[-1], gap_s)
        else:
            if len(self.sums_s) == TRACE_RUNS:
                self.sums_s = [a + b for a, b in _pairs(self.sums_s)]
                self.max_s = [max(pair) for pair in _pairs(self.max_s)]
                self.run_tokens *= 2
            self.sums_s.append(gap_s)
            self.max_s.append(gap_s)
        self.gaps += 1

    def trace(self) -> GapTrace:
        """The runs so far; the last one may be short."""
        last = self.gaps - (len(self.sums_s) - 1) * self.run_tokens
        means = [total_s / self.run_tokens for total_s in self.sums_s]
        if means:
            means[-1] = self.sums_s[-1] / last
        return GapTrace(run_tokens=self.run_tokens, mean_s=tuple(means), max_s=tuple(self.max_s))


@dataclass(slots=True)
class Clock:
    """The moments of a request; zero means not yet."""

    submitted_s: float
    dequeued_s: float = 0.0
    templated_s: float = 0.0
    prefill_started_s: float = 0.0
    prefilled_s: float = 0.0
    first_token_s: float = 0.0
    last_token_s: float = 0.0
    tokens: int = 0
    first_joules: float | None = None
    """The card's energy counter at the first token."""
    _recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_GAPS))
    _ordered_s: list[float] = field(default_factory=list)
    _runs: GapRuns = field(default_factory=GapRuns)

    def token(self, now_s: float) -> None:
        """A token left the model."""
        if self.tokens:
            gap_s = now_s - self.last_token_s
            self._recent_s.append(gap_s)
            bisect.insort(self._ordered_s, gap_s)
            self._runs.add(gap_s)
        else:
            self.first_token_s = now_s
        self.last_token_s = now_s
        self.tokens += 1

    def metrics(
        self,
        *,
        now_s: float,
        prompt_tokens: int,
        cached_tokens: int,
        context_tokens: int,
        context_tokens_max: int,
        read_bytes_per_token: int,
        joules: float | None,
    ) -> Metrics:
        """The figures so far; `joules` is what the card's energy counter says now."""
        ordered = self._ordered_s
        prefill_s = max(0.0, self.prefilled_s - self.prefill_started_s)
        computed = prompt_tokens - cached_tokens
        decode_s = self.last_token_s - self.first_token_s
        end = self.last_token_s if self.tokens else now_s
        spent = None if joules is None or self.first_joules is None else joules - self.first_joules
        return Metrics(
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
            completion_tokens=self.tokens,
            context_tokens=context_tokens,
            context_tokens_max=context_tokens_max,
            queue_s=max(0.0, self.dequeued_s - self.submitted_s)
            + max(0.0, self.prefill_started_s - self.templated_s),
            template_s=max(0.0, self.templated_s - self.dequeued_s),
            prefill_s=prefill_s,
            first_sample_s=max(0.0, self.first_token_s - self.prefilled_s) if self.tokens else 0.0,
            ttft_s=max(0.0, self.first_token_s - self.submitted_s) if self.tokens else 0.0,
            itl_p50_s=quantile(ordered, 0.5),
            itl_p95_s=quantile(ordered, 0.95),
            itl_max_s=ordered[-1] if ordered else 0.0,
            itl_recent_s=tuple(self._recent_s),
            itl_trace=self._runs.trace(),
            prefill_tok_per_s=computed / prefill_s if prefill_s > 0 else 0.0,
            decode_tok_per_s=len(ordered) / decode_s if decode_s > 0 else 0.0,
            e2e_s=max(0.0, end - self.submitted_s),
            read_bytes_per_token=read_bytes_per_token,
            decode_joules=spent if self.tokens > 1 else None,
        )


def _pairs(values: list[float]) -> zip[tuple[float, float]]:
    return zip(values[::2], values[1::2], strict=True)


def quantile(ordered: list[float], q: float) -> float:
    """The smallest value that at least a share q of the sorted list does not exceed."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]
