"""Latency of one request, stamped in the engine (`time.perf_counter`).

TTFT runs from submit to the first token and is the sum of its parts; ITL is the gap between two
tokens; decode speed counts the tokens after the first.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

from quantchat.events import Metrics

RECENT_GAPS = 64


@dataclass(slots=True)
class Clock:
    """The moments of a request; zero means not yet."""

    submitted_s: float
    dequeued_s: float = 0.0
    templated_s: float = 0.0
    prefill_started_s: float = 0.0
    prefilled_s: float = 0.0
    token_times_s: list[float] = field(default_factory=list)

    def metrics(
        self,
        *,
        now_s: float,
        prompt_tokens: int,
        cached_tokens: int,
        context_tokens: int,
        context_tokens_max: int,
    ) -> Metrics:
        """The figures so far."""
        times = self.token_times_s
        gaps = [b - a for a, b in itertools.pairwise(times)]
        ordered = sorted(gaps)
        first = times[0] if times else 0.0
        prefill_s = max(0.0, self.prefilled_s - self.prefill_started_s)
        computed = prompt_tokens - cached_tokens
        end = times[-1] if times else now_s
        return Metrics(
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
            completion_tokens=len(times),
            context_tokens=context_tokens,
            context_tokens_max=context_tokens_max,
            queue_s=max(0.0, self.dequeued_s - self.submitted_s),
            template_s=max(0.0, self.templated_s - self.dequeued_s),
            prefill_s=prefill_s,
            first_sample_s=max(0.0, first - self.prefilled_s) if times else 0.0,
            ttft_s=max(0.0, first - self.submitted_s) if times else 0.0,
            itl_p50_s=quantile(ordered, 0.5),
            itl_p95_s=quantile(ordered, 0.95),
            itl_max_s=ordered[-1] if ordered else 0.0,
            itl_recent_s=tuple(gaps[-RECENT_GAPS:]),
            prefill_tok_per_s=computed / prefill_s if prefill_s > 0 else 0.0,
            decode_tok_per_s=len(gaps) / sum(gaps) if gaps else 0.0,
            e2e_s=max(0.0, end - self.submitted_s),
        )


def quantile(ordered: list[float], q: float) -> float:
    """The smallest value that at least a share q of the sorted list does not exceed."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]
