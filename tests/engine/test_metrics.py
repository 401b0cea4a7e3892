"""Latency figures from known moments."""

from __future__ import annotations

import pytest

from quantchat.engine.metrics import Clock, quantile


def test_figures_of_a_known_answer() -> None:
    clock = Clock(
        submitted_s=10.0,
        dequeued_s=10.1,
        templated_s=10.15,
        prefill_started_s=10.2,
        prefilled_s=10.7,
        token_times_s=[10.8, 10.9, 11.0, 11.3],
    )
    figures = clock.metrics(
        now_s=99, prompt_tokens=60, cached_tokens=10, context_tokens=64, context_tokens_max=128
    )
    assert figures.ttft_s == pytest.approx(0.8)
    assert figures.queue_s == pytest.approx(0.1)
    assert figures.template_s == pytest.approx(0.05)
    assert figures.prefill_s == pytest.approx(0.5)
    assert figures.first_sample_s == pytest.approx(0.1)
    assert figures.prefill_tok_per_s == pytest.approx(100)
    assert figures.decode_tok_per_s == pytest.approx(3 / 0.5)
    assert figures.itl_p50_s == pytest.approx(0.1)
    assert figures.itl_p95_s == figures.itl_max_s == pytest.approx(0.3)
    assert figures.itl_recent_s == pytest.approx((0.1, 0.1, 0.3))
    assert figures.e2e_s == pytest.approx(1.3)
    assert figures.completion_tokens == 4


def test_nothing_yet_is_zero_everywhere() -> None:
    figures = Clock(submitted_s=5.0).metrics(
        now_s=6, prompt_tokens=3, cached_tokens=0, context_tokens=3, context_tokens_max=9
    )
    assert figures.ttft_s == figures.decode_tok_per_s == figures.prefill_tok_per_s == 0
    assert figures.e2e_s == pytest.approx(1)


@pytest.mark.parametrize(("q", "value"), [(0.5, 2), (0.95, 4), (0.25, 1), (0.26, 2), (1, 4)])
def test_quantile_is_a_value_of_the_list(q: float, value: int) -> None:
    assert quantile([1, 2, 3, 4], q) == value
