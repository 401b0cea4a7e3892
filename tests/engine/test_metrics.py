"""Latency figures from known moments."""

from __future__ import annotations

import pytest

from quantchat.engine.metrics import RECENT_GAPS, TRACE_RUNS, Clock, GapRuns, quantile
from quantchat.events import Metrics


def figures_of(clock: Clock, *, now_s: float = 99, joules: float | None = None) -> Metrics:
    return clock.metrics(
        now_s=now_s,
        prompt_tokens=60,
        cached_tokens=10,
        context_tokens=64,
        context_tokens_max=128,
        read_bytes_per_token=1000,
        joules=joules,
    )


def written(*times_s: float) -> Clock:
    clock = Clock(
        submitted_s=10.0,
        dequeued_s=10.1,
        templated_s=10.15,
        prefill_started_s=10.2,
        prefilled_s=10.7,
    )
    for time_s in times_s:
        clock.token(time_s)
    return clock


def test_figures_of_a_known_answer() -> None:
    figures = figures_of(written(10.8, 10.9, 11.0, 11.3))
    assert figures.ttft_s == pytest.approx(0.8)
    assert figures.queue_s == pytest.approx(0.15)
    assert figures.template_s == pytest.approx(0.05)
    assert figures.prefill_s == pytest.approx(0.5)
    assert figures.first_sample_s == pytest.approx(0.1)
    assert figures.prefill_tok_per_s == pytest.approx(100)
    assert figures.decode_tok_per_s == pytest.approx(3 / 0.5)
    assert figures.itl_p50_s == pytest.approx(0.1)
    assert figures.itl_p95_s == figures.itl_max_s == pytest.approx(0.3)
    assert figures.itl_recent_s == pytest.approx((0.1, 0.1, 0.3))
    assert figures.itl_trace.mean_s == pytest.approx((0.1, 0.1, 0.3))
    assert figures.e2e_s == pytest.approx(1.3)
    assert figures.completion_tokens == 4
    assert figures.read_bytes_per_token == 1000
    assert figures.decode_joules is None


def test_the_parts_are_the_time_to_first_token() -> None:
    figures = figures_of(written(10.9))
    parts = (figures.queue_s, figures.template_s, figures.prefill_s, figures.first_sample_s)
    assert sum(parts) == pytest.approx(figures.ttft_s)


def test_nothing_yet_is_zero_everywhere() -> None:
    figures = figures_of(Clock(submitted_s=5.0), now_s=6)
    assert figures.ttft_s == figures.decode_tok_per_s == figures.prefill_tok_per_s == 0
    assert figures.e2e_s == pytest.approx(1)
    assert figures.itl_trace.mean_s == ()


def test_energy_counts_from_the_first_token_on() -> None:
    clock = written(10.8)
    clock.first_joules = 5000.0
    assert figures_of(clock, joules=5001.0).decode_joules is None
    clock.token(10.9)
    assert figures_of(clock, joules=5003.5).decode_joules == pytest.approx(3.5)
    assert figures_of(clock).decode_joules is None


def test_a_long_answer_is_traced_in_bounded_runs() -> None:
    runs, gaps = GapRuns(), [0.001 * (at % 7 + 1) for at in range(5 * TRACE_RUNS + 3)]
    for gap_s in gaps:
        runs.add(gap_s)
    trace = runs.trace()
    assert trace.run_tokens == 8
    assert TRACE_RUNS // 2 < len(trace.mean_s) == len(trace.max_s) <= TRACE_RUNS
    chunks = [gaps[at : at + 8] for at in range(0, len(gaps), 8)]
    assert trace.max_s == pytest.approx([max(chunk) for chunk in chunks])
    assert trace.mean_s == pytest.approx([sum(chunk) / len(chunk) for chunk in chunks])


def test_the_latest_gaps_are_bounded_and_the_quantiles_are_not() -> None:
    clock, now_s = Clock(submitted_s=0.0), 1.0
    for at in range(300):
        now_s += 0.5 if at == 3 else 0.01
        clock.token(now_s)
    figures = figures_of(clock)
    assert len(figures.itl_recent_s) == RECENT_GAPS
    assert figures.itl_max_s == pytest.approx(0.5)
    assert figures.itl_p95_s == pytest.approx(0.01)


@pytest.mark.parametrize(("q", "value"), [(0.5, 2), (0.95, 4), (0.25, 1), (0.26, 2), (1, 4)])
def test_quantile_is_a_value_of_the_list(q: float, value: int) -> None:
    assert quantile([1, 2, 3, 4], q) == value
