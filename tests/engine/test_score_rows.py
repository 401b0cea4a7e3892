"""Scores out of log-probabilities: ties, numbers that are none, heads of other widths."""

from __future__ import annotations

import math
from pathlib import Path

import factory
import pytest
import torch
from engine_log import Log
from score_log import scores_of, wish

from quantchat.engine.score_rows import TOP, token_scores
from quantchat.engine.session import Session
from quantchat.errors import EngineError
from quantchat.model.divergence import compare
from quantchat.model.logprobs import log_softmax


def spell(token_id: int) -> str:
    return f"t{token_id}"


def test_numbers_are_those_of_the_distributions() -> None:
    base, own = (log_softmax(torch.randn(4, 50)) for _ in range(2))
    ids = (3, 0, 49, 7)
    for row, score in enumerate(token_scores(own, base, ids, spell)):
        assert score.text == spell(ids[row])
        assert score.p == pytest.approx(math.exp(own[row, ids[row]]), rel=1e-6)
        assert score.base_p == pytest.approx(math.exp(base[row, ids[row]]), rel=1e-6)
        kl = float((base[row].exp() * (base[row] - own[row])).sum())
        assert score.kl == pytest.approx(kl, abs=1e-6)
        wanted = own[row].exp().topk(TOP)
        assert [c.token_id for c in score.top] == wanted.indices.tolist()
        assert [c.p for c in score.top] == pytest.approx(wanted.values.tolist())
    alone = token_scores(own, None, ids, spell)
    assert all(s.kl is None and s.base_p is None and s.base_top == () for s in alone)


def test_among_equals_the_first_is_the_one_that_is_compared() -> None:
    own, base = torch.zeros(3, 40), torch.zeros(3, 40)
    own[1, 20:30] = 5.0
    own[2, 33] = 1.0
    rows = [log_softmax(own), log_softmax(base)]
    same = compare(rows[1], rows[0], torch.zeros(3, dtype=torch.int64)).same_top.tolist()
    for score, expected in zip(token_scores(*rows, (0, 0, 0), spell), same, strict=True):
        assert (score.top[0].token_id == score.base_top[0].token_id) == expected == score.same_top
        assert len({c.token_id for c in score.top}) == TOP


def test_what_is_not_finite_is_an_error() -> None:
    rows = torch.zeros(2, 40)
    rows[1, 3] = math.nan
    for base in (None, log_softmax(torch.zeros(2, 40))):
        with pytest.raises(EngineError, match="not finite"):
            token_scores(log_softmax(rows), base, (1, 2), spell)


def test_heads_padded_to_other_widths_are_compared_over_the_tokens_they_share(
    tmp_path: Path,
) -> None:
    """Models of a family have one tokenizer and heads of several widths."""
    session = Session()
    log = Log(session)
    try:
        for slot, vocab in (("left", 352), ("right", 384)):
            model = factory.write_hf(tmp_path / slot, "llama", vocab_size=vocab)
            log.load(slot=slot, model=str(model), scheme="fp16", context_tokens=128)
        scores = scores_of(log, wish(20, base="left"))
    finally:
        session.close()
    for score in scores:
        assert score.kl is not None and 0 <= score.kl < math.inf
        assert all(c.token_id < 340 for c in (*score.top, *score.base_top))
