"""Sampler: the rules as a table, both paths agree, the same seed draws the same."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from quantchat.kernels.sample.reference import inverse_temperature, weights

from quantchat.engine.sampler import (
    SamplingRows,
    penalize,
    pick,
    pick_rows,
    uniform,
    uniform_bits,
)
from quantchat.errors import EngineError
from quantchat.requests import Sampling

LOGITS = torch.log(torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15]))

KEPT = [
    ("all", Sampling(temperature=1, top_p=1), {0, 1, 2, 3, 4}),
    ("greedy", Sampling(temperature=0), {1}),
    ("top-k 2", Sampling(temperature=1, top_p=1, top_k=2), {1, 3}),
    ("top-k past the vocabulary", Sampling(temperature=1, top_p=1, top_k=99), {0, 1, 2, 3, 4}),
    ("top-p stops once it is reached", Sampling(temperature=1, top_p=0.69), {1, 3}),
    ("top-p takes one more where it is not", Sampling(temperature=1, top_p=0.71), {1, 3, 4}),
    ("top-p 0 keeps the first", Sampling(temperature=1, top_p=0), {1}),
    ("min-p", Sampling(temperature=1, top_p=1, min_p=0.3), {1, 3, 4}),
    ("min-p 1 keeps the first", Sampling(temperature=1, top_p=1, min_p=1), {1}),
    ("together", Sampling(temperature=1, top_p=0.9, top_k=3, min_p=0.5), {1, 3}),
]


def rows(sampling: Sampling, count: int, vocab: int, seed: int = 0) -> SamplingRows:
    made = SamplingRows.empty(count, vocab, torch.device("cpu"))
    for row in range(count):
        made.set_row(row, sampling, seed, vocab)
    return made


@pytest.mark.parametrize(
    ("sampling", "kept"), [(s, k) for _, s, k in KEPT], ids=[n for n, _, _ in KEPT]
)
def test_only_kept_tokens_are_drawn_and_all_of_them(sampling: Sampling, kept: set[int]) -> None:
    grid = [(i + 0.5) / 400 for i in range(400)]
    assert {pick(LOGITS, sampling, u) for u in grid} == kept
    many = pick_rows(
        LOGITS.expand(400, 5),
        rows(sampling, 400, 5),
        torch.arange(400),
        greedy=sampling.temperature == 0,
    )
    assert set(many.tolist()) == kept


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error_in_words(
    temperature: float, number: float
) -> None:
    logits = LOGITS.clone()
    logits[3] = number
    with pytest.raises(EngineError, match="not finite"):
        pick(logits, Sampling(temperature=temperature), 0.5)
    nothing = torch.full_like(LOGITS, -math.inf)
    with pytest.raises(EngineError, match="not finite"):
        pick(nothing, Sampling(temperature=temperature), 0.5)


def test_draws_follow_the_distribution() -> None:
    n = 4000
    counts = Counter(
        pick(LOGITS, Sampling(temperature=1, top_p=1), uniform(7, i)) for i in range(n)
    )
    for token, logit in enumerate(LOGITS.tolist()):
        p = math.exp(logit)
        assert abs(counts[token] / n - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_temperature_sharpens() -> None:
    cold = Sampling(temperature=0.25, top_p=1)
    hits = sum(pick(LOGITS, cold, uniform(1, i)) == 1 for i in range(500))
    assert hits > 500 * 0.65


SHARP = (
    Sampling(temperature=0.8, top_p=0.95, top_k=50),
    Sampling(temperature=1.5, top_p=0.999, min_p=0.0),
    Sampling(temperature=1.0, top_p=1.0, min_p=0.02),
    Sampling(temperature=1.0, top_p=1.0),
    Sampling(temperature=1e-30, top_p=0.9),
    Sampling(temperature=1e30, top_p=0.5),
    Sampling(temperature=0.7, top_p=0.0, top_k=1),
    Sampling(temperature=2.0, top_p=0.3, top_k=3, min_p=1.0),
)


@pytest.mark.parametrize("vocab", [1, 3, 63, 64, 65, 2000])
@pytest.mark.parametrize("steps", [0, 4], ids=["distinct", "tied"])
def test_the_two_paths_draw_the_same_token(vocab: int, steps: int) -> None:
    torch.manual_seed(vocab)
    logits = torch.randn(40, vocab) * 3
    if steps:
        logits = (logits * steps).round() / steps
    for sampling in SHARP:
        made = rows(sampling, 40, vocab, seed=11)
        many = pick_rows(logits, made, torch.arange(40), greedy=False).tolist()
        assert many == [pick(logits[i], sampling, uniform(11, i)) for i in range(40)], sampling


def softmax_rule(logits: torch.Tensor, sampling: Sampling, u: float) -> int:
    """The rule spelled out in float64 for one row without ties."""
    p = torch.softmax(logits.double() / sampling.temperature, 0)
    order = p.argsort(descending=True).tolist()
    before, kept = 0.0, []
    for rank, token in enumerate(order):
        if rank and (
            before >= sampling.top_p
            or (0 < sampling.top_k <= rank)
            or p[token] < sampling.min_p * p[order[0]]
        ):
            break
        kept.append(token)
        before += float(p[token])
    cumulated = 0.0
    for token in sorted(kept):
        cumulated += float(p[token])
        if cumulated > u * before:
            return token
    return max(kept)


@pytest.mark.parametrize("sampling", [s for s in SHARP if 0.1 < s.temperature < 10])
def test_fixed_point_follows_the_softmax(sampling: Sampling) -> None:
    torch.manual_seed(3)
    logits = torch.randn(150, 500) * 4
    drawn = [pick(row, sampling, uniform(5, i)) for i, row in enumerate(logits)]
    truth = [softmax_rule(row, sampling, uniform(5, i)) for i, row in enumerate(logits)]
    # A draw next to the edge of a token's share may fall on either side.
    assert sum(a != b for a, b in zip(drawn, truth, strict=True)) <= 1


def test_weights_are_the_softmax_in_integers() -> None:
    logits = torch.randn(4000, generator=torch.Generator().manual_seed(1)) * 5
    top = logits.max()
    w = weights(logits, top, inverse_temperature(torch.tensor(0.8)))
    truth = torch.exp((logits.double() - top) / torch.tensor(0.8).double()) * 2**34
    assert int(w.max()) == 1 << 34
    assert ((w - truth).abs() <= 1 + truth * 4e-6).all()
    ordered = w[logits.argsort()]
    assert (ordered[1:] >= ordered[:-1]).all()


def test_ties_at_the_edge_go_to_the_lowest_ids() -> None:
    logits = torch.tensor([0.0, 2.0, 1.0, 2.0, 1.0, 1.0, -0.0])
    for sampling in (
        Sampling(temperature=1, top_p=1, top_k=3),
        # Two tokens weigh 1 each, three e^-1: half of the total is reached by the third.
        Sampling(temperature=1, top_p=0.6),
    ):
        seen = {pick(logits, sampling, (i + 0.5) / 200) for i in range(200)}
        assert seen == {1, 2, 3}, sampling


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, 2**40 + 17])
def test_uniform_is_the_same_on_host_and_device(seed: int) -> None:
    indices = torch.arange(300)
    made = rows(Sampling(), 1, 5, seed).seeds.expand(300)
    drawn = uniform_bits(made, indices) / (1 << 24)
    assert drawn.tolist() == [uniform(seed, i) for i in range(300)]


def test_uniform_is_spread_and_below_one() -> None:
    values = sorted(uniform(s, i) for s in range(40) for i in range(50))
    assert values[0] >= 0 and values[-1] < 1
    assert max(abs(v - (i + 0.5) / 2000) for i, v in enumerate(values)) < 0.04


def test_greedy_and_random_rows_in_one_step() -> None:
    made = SamplingRows.empty(2, 5, torch.device("cpu"))
    made.set_row(0, Sampling(temperature=0), 1, 5)
    made.set_row(1, Sampling(temperature=1, top_k=1), 1, 5)
    out = pick_rows(LOGITS.expand(2, 5), made, torch.tensor([3, 3]), greedy=False)
    assert out.tolist() == [1, 1]


def test_penalty_lowers_both_signs() -> None:
    logits = torch.tensor([[2.0, -2.0, 3.0]])
    seen = torch.tensor([[True, True, False]])
    assert penalize(logits, seen, torch.tensor([[2.0]])).tolist() == [[1.0, -4.0, 3.0]]
