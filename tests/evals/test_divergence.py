"""KL, agreement, delta p and perplexity against sums written out in float64."""

from __future__ import annotations

import math

import pytest
import torch

from quantchat.evals.divergence import Positions, compare, concat, summarize
from quantchat.evals.logprobs import SLICE_ELEMENTS, log_softmax, row_slices
from quantchat.evals.perplexity import log_ratio, perplexity
from quantchat.evals.statistics import exponential, mean, quantile, root_mean_square, share


def pair(rows: int, vocab: int, noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    base = 4 * torch.randn(rows, vocab, generator=random)
    other = base + noise * torch.randn(rows, vocab, generator=random)
    return base, other, torch.randint(0, vocab, (rows,), generator=random)


@pytest.mark.parametrize("noise", [1.0, 1e-2, 1e-4])
def test_divergence_is_the_sum_over_the_vocabulary(noise: float) -> None:
    base, other, targets = pair(37, 5003, noise)
    positions = compare(log_softmax(base), log_softmax(other), targets)
    p = torch.log_softmax(base.double(), -1)
    q = torch.log_softmax(other.double(), -1)
    wanted = (p.exp() * (p - q)).sum(-1)
    torch.testing.assert_close(positions.kl, wanted, rtol=1e-3, atol=1e-10)
    assert positions.same_top.tolist() == (p.argmax(-1) == q.argmax(-1)).tolist()
    rows = torch.arange(37)
    torch.testing.assert_close(positions.nll, -q[rows, targets], rtol=1e-5, atol=1e-5)
    summary = summarize(positions)
    delta = q[rows, targets].exp() - p[rows, targets].exp()
    assert summary.delta_p_mean.value == pytest.approx(float(delta.mean()), rel=1e-2, abs=1e-8)
    assert summary.delta_p_rms.value == pytest.approx(float(delta.square().mean().sqrt()), rel=1e-2)
    assert summary.kl_max == pytest.approx(float(wanted.max()), rel=1e-3)
    assert summary.kl_median == pytest.approx(float(wanted.median()), rel=1e-3)


def test_equal_distributions_have_none_even_when_logits_are_shifted() -> None:
    base, _, targets = pair(8, 49152, 0)
    summary = summarize(compare(log_softmax(base), log_softmax(base + 37.5), targets))
    assert 0 <= summary.kl_max < 1e-9
    assert summary.same_top.value == 1


def test_positions_that_are_not_finite_are_counted_and_left_out() -> None:
    base, other, targets = pair(6, 50, 0.1)
    clean = compare(log_softmax(base), log_softmax(other), targets)
    other[2, 7] = float("nan")
    base[4, 0] = float("inf")
    summary = summarize(compare(log_softmax(base), log_softmax(other), targets))
    keep = [0, 1, 3, 5]
    assert (summary.positions, summary.nonfinite_positions) == (4, 2)
    assert summary.kl_mean.value == pytest.approx(float(clean.kl[keep].mean()), rel=1e-6)


def test_a_token_ruled_out_by_both_costs_nothing() -> None:
    base, other, targets = pair(3, 20, 0.1)
    base[:, 5] = other[:, 5] = float("-inf")
    targets[:] = 1
    summary = summarize(compare(log_softmax(base), log_softmax(other), targets))
    assert summary.nonfinite_positions == 0
    assert 0 < summary.kl_mean.value < 0.1
    base[:, 5] = 9.0
    ruled_out = summarize(compare(log_softmax(base), log_softmax(other), targets))
    assert ruled_out.nonfinite_positions == 3
    assert math.isnan(ruled_out.kl_mean.value)


def test_errors_of_means_shares_and_roots() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 5.0], dtype=torch.float64)
    assert mean(values).value == 3
    assert mean(values).se == pytest.approx(math.sqrt((4 + 1 + 1 + 4) / 3 / 4))
    hits = share(torch.tensor([True, True, True, False]))
    assert (hits.value, hits.se) == (0.75, pytest.approx(math.sqrt(0.75 * 0.25 / 3)))
    root = root_mean_square(values)
    assert root.value == pytest.approx(math.sqrt(46 / 4))
    assert math.isnan(mean(values[:1]).se) and math.isnan(mean(values[:0]).value)
    assert exponential(mean(torch.full((3,), 1e4, dtype=torch.float64))).value == math.inf
    assert [quantile(values, q) for q in (0, 0.5, 1)] == [1, 3, 5]


def test_the_standard_error_is_the_spread_of_repeated_means() -> None:
    random = torch.Generator().manual_seed(1)
    draws = torch.rand(4000, 50, generator=random, dtype=torch.float64) ** 2
    spread = float(draws.mean(dim=1).std())
    errors = [mean(row).se for row in draws[:200]]
    assert sum(errors) / len(errors) == pytest.approx(spread, rel=0.05)


def test_perplexity_and_its_ratio() -> None:
    random = torch.Generator().manual_seed(1)
    base = torch.rand(500, generator=random, dtype=torch.float64) * 6
    nll = base + 0.01
    assert perplexity(nll).ppl.value == pytest.approx(math.exp(float(nll.mean())))
    assert perplexity(nll).ppl.se == pytest.approx(
        math.exp(float(nll.mean())) * float(nll.std()) / math.sqrt(500)
    )
    ratio = log_ratio(nll, base)
    assert ratio.value == pytest.approx(0.01) and ratio.se < 1e-9
    nll[7] = math.nan
    assert (perplexity(nll).positions, perplexity(nll).nonfinite_positions) == (499, 1)


def test_slices_cover_all_rows_once_and_stay_small() -> None:
    for rows, vocab in ((1000, 49152), (3, SLICE_ELEMENTS * 2), (1, 5)):
        slices = list(row_slices(rows, vocab))
        assert [i for cut in slices for i in range(cut.start, cut.stop)] == list(range(rows))
        assert all((cut.stop - cut.start) * vocab <= max(SLICE_ELEMENTS, vocab) for cut in slices)


def test_parts_join_in_order() -> None:
    base, other, targets = pair(9, 30, 0.5)
    whole = compare(log_softmax(base), log_softmax(other), targets)
    parts = [
        compare(log_softmax(base[rows]), log_softmax(other[rows]), targets[rows])
        for rows in (slice(0, 4), slice(4, 9))
    ]
    joined = concat(parts)
    assert isinstance(joined, Positions)
    torch.testing.assert_close(joined.kl, whole.kl)
    assert joined.same_top.tolist() == whole.same_top.tolist()
