"""Scores of given tokens: right numbers, from what is cached, beside answers, and failures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import factory
import pytest
from engine_log import LONG, Log, chat
from score_log import ended, refused, scores_of, wish

from quantchat.engine import kept_scores, score_track
from quantchat.engine.loading import build_pool
from quantchat.engine.session import Session
from quantchat.evals.divergence import Positions
from quantchat.evals.reference import run_reference
from quantchat.evals.study import score as eval_score
from quantchat.evals.subject import Subject, open_subject
from quantchat.evals.text import Passages, Window
from quantchat.events import Done, Failed, Scored, Token, TokenScore, Unloaded
from quantchat.requests import Message, ScoreRequest

CONTEXT = 256


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Where the models run; on a card the answers' steps are captured."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factory.write_hf(
        tmp_path_factory.mktemp("tiny"),
        "llama",
        hidden_size=256,
        intermediate_size=512,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
    )


@pytest.fixture(scope="module")
def pair(tiny: Path, device: str) -> Iterator[Log]:
    """fp16 on the left, int4 on the right."""
    session = Session()
    log = Log(session)
    for slot, scheme in (("left", "fp16"), ("right", "int4")):
        log.load(slot=slot, model=str(tiny), scheme=scheme, context_tokens=CONTEXT, device=device)
    yield log
    session.close()


def evaluated(
    subject: Subject,
    request: ScoreRequest,
    *,
    base: tuple[str, str],
    other: tuple[str, str],
    context_tokens: int = CONTEXT,
    device: str = "cpu",
) -> Positions:
    """What an evaluation makes of the same tokens, by (scheme, kv)."""
    prompt = subject.tokenizer.encode_chat(request.messages, add_generation_prompt=True)
    window = Window((*prompt, *request.answer_ids), len(prompt) + request.first)
    passages = Passages(origin="test", method="answer", windows=(window,))
    never = {"cancelled": lambda: False, "on_tokens": lambda count: None}
    plans = [subject.plan(*pair, device, context_tokens) for pair in (base, other)]
    decoders = [
        subject.decoder(plan, lambda *progress: None, lambda: False).decoder for plan in plans
    ]
    reference = run_reference(
        decoders[0],
        build_pool(decoders[0], plans[0]),
        passages,
        chunk_tokens=plans[0].prefill_chunk_tokens,
        **never,  # type: ignore[arg-type]
    )
    positions, _ = eval_score(
        decoders[1],
        build_pool(decoders[1], plans[1]),
        passages,
        reference,
        chunk_tokens=plans[1].prefill_chunk_tokens,
        **never,  # type: ignore[arg-type]
    )
    return positions


def agrees(scores: list[TokenScore], positions: Positions, tolerance: float) -> None:
    assert len(scores) == positions.kl.numel()
    for score, kl, same, nll, base_nll in zip(
        scores,
        positions.kl.tolist(),
        positions.same_top.tolist(),
        positions.nll.tolist(),
        positions.base_nll.tolist(),
        strict=True,
    ):
        assert score.kl == pytest.approx(kl, abs=tolerance)
        assert score.same_top == same
        assert score.p == pytest.approx(math.exp(-nll), abs=tolerance)
        assert score.base_p == pytest.approx(math.exp(-base_nll), abs=tolerance)


def mean_kl(scores: list[TokenScore]) -> float:
    return sum(score.kl or 0.0 for score in scores) / len(scores)


@pytest.mark.parametrize("first", [0, 17])
def test_exact_scores_are_those_of_an_evaluation(
    pair: Log, tiny: Path, device: str, first: int
) -> None:
    request = wish(150, base="left", exact=True, first=first)
    # What is cached must not be used, and an exact scoring must leave nothing behind.
    scores_of(pair, wish(150, base="left"))
    scores = scores_of(pair, request)
    assert scores_of(pair, request) == scores
    subject = open_subject(str(tiny))
    try:
        positions = evaluated(
            subject, request, base=("fp16", "auto"), other=("int4", "auto"), device=device
        )
    finally:
        subject.close()
    agrees(scores, positions, 1e-6)
    assert sum(score.kl or 0.0 for score in scores) > 0.01


def test_live_scores_are_close_and_consistent(pair: Log) -> None:
    exact = scores_of(pair, wish(base="left", exact=True))
    live = scores_of(pair, wish(base="left"))
    for near, score in zip(live, exact, strict=True):
        assert near.kl is not None and score.kl is not None and score.kl >= 0
        # A random model makes much of how its products are rounded.
        assert near.kl == pytest.approx(score.kl, abs=0.2, rel=0.7)
        for top in (score.top, score.base_top):
            assert len(top) == 5
            assert [c.p for c in top] == sorted((c.p for c in top), reverse=True)
            assert all(c.text for c in top)
        assert score.same_top == (score.top[0].token_id == score.base_top[0].token_id)
        listed = [c.p for c in score.top if c.token_id == score.token_id]
        assert not listed or listed[0] == pytest.approx(score.p)
    assert mean_kl(live) == pytest.approx(mean_kl(exact), rel=0.1)


def test_a_request_in_pieces_gives_what_one_gives(pair: Log) -> None:
    whole = scores_of(pair, wish(64, base="left"))
    for first, end in ((0, 7), (7, 8), (8, 33), (33, 64)):
        part = wish(end, base="left", first=first)
        for score, same in zip(scores_of(pair, part), whole[first:end], strict=True):
            assert score.kl == pytest.approx(same.kl, abs=0.2, rel=0.7)


def test_growing_requests_compute_at_most_a_page_again(
    pair: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    real = score_track.scored_chunk

    def counted(*args: object, start: int, end: int, **more: object) -> object:
        rows.append(end - start)
        return real(*args, start=start, end=end, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(score_track, "scored_chunk", counted)
    messages = (Message("user", "another question altogether"),)
    scores_of(pair, wish(50, messages=messages))
    rows.clear()
    scores_of(pair, wish(60, first=50, messages=messages))
    assert 10 <= sum(rows) <= 10 + 16


def test_kept_log_probs_serve_a_model_that_comes_later(pair: Log) -> None:
    direct = scores_of(pair, wish(base="left", exact=True))
    alone = wish(slot="left", exact=True)
    kept = pair.session.score(alone)
    first, last = ended(pair, kept)
    assert isinstance(last, Scored) and all(s.kl is None and s.base_p is None for s in first)
    assert [s.p for s in first] == pytest.approx([s.base_p for s in direct], rel=1e-12)
    assert_alike(scores_of(pair, wish(exact=True, kept=kept)), direct)
    assert_alike(scores_of(pair, wish(exact=True, kept=kept, first=9)), direct[9:])
    other = refused(pair, wish(41, exact=True, kept=kept))
    assert "another answer" in other.message
    assert "another way" in refused(pair, wish(kept=kept)).message
    assert "not there any more" in refused(pair, wish(exact=True, kept=kept + 9999)).message
    # One set is kept: the next one takes its place.
    scores_of(pair, wish(10, slot="left"))
    assert "not there any more" in refused(pair, wish(exact=True, kept=kept)).message


def assert_alike(given: Sequence[TokenScore], wanted: Sequence[TokenScore]) -> None:
    """Equal but for the last bits: a card's number of rows decides in which order it adds."""
    for ours, theirs in zip(given, wanted, strict=True):
        assert (ours.token_id, ours.same_top) == (theirs.token_id, theirs.same_top)
        for mine, other in ((ours.top, theirs.top), (ours.base_top, theirs.base_top)):
            assert [c.token_id for c in mine] == [c.token_id for c in other]
            assert [c.p for c in mine] == pytest.approx([c.p for c in other], rel=1e-12)
        assert ours.kl == pytest.approx(theirs.kl, rel=1e-9, abs=1e-12)


def test_too_much_to_keep_is_refused(pair: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_scores, "KEPT_BYTES", 10_000)
    failed = refused(pair, wish(slot="left"))
    assert "main memory" in failed.message and failed.hint
    assert scores_of(pair, wish(base="left"))


def test_what_cannot_be_scored_is_said(pair: Log) -> None:
    assert "no tokens" in refused(pair, wish(0)).message
    assert "no tokens" in refused(pair, wish(5, first=5)).message
    assert "no tokens" in refused(pair, wish(5, first=-1)).message
    assert "no model" in refused(pair, wish(slot="main")).message
    assert "no model" in refused(pair, wish(base="main")).message
    assert "352" in refused(pair, wish(answer_ids=(5, 352))).message
    long = refused(pair, wish(answer_ids=(40,) * 300))
    assert "256" in long.message and "longer context" in long.hint
    assert "two" in refused(pair, wish(base="left", kept=1)).message


def test_models_of_other_words_are_refused(pair: Log, tmp_path: Path) -> None:
    other = factory.write_hf(tmp_path / "other", "qwen2", max_position_embeddings=CONTEXT)
    pair.load(slot="third", model=str(other), scheme="fp16", context_tokens=128, device="cpu")
    assert "vocabulary" in refused(pair, wish(base="third")).message
    pair.session.unload("third")
    pair.until(lambda e: isinstance(e, Unloaded))


def test_an_answer_is_the_same_beside_its_scoring(pair: Log) -> None:
    """The writer's own tokens are scored while they come; its next turn reads its own pages."""
    turns = ("tell me a long story", "and then?")
    expected = [written(pair, *turns[:1])]
    expected.append(written(pair, turns[0], expected[0].text, turns[1]))
    for scored in (True, False):
        request_id = pair.session.chat(
            replace(chat(turns[0], sampling=LONG, max_tokens=60), slot="left")
        )
        messages = (Message("user", turns[0]),)
        ids: list[int] = []
        pending: list[int] = []
        done: Done | None = None
        while done is None:
            event = pair.until(lambda e: isinstance(e, Token | Done | Failed))
            assert not isinstance(event, Failed), event
            ids = [
                e.token_id
                for e in pair.events
                if isinstance(e, Token) and e.request_id == request_id
            ]
            if scored and len(ids) % 5 == 0 and ids:
                pending.append(
                    pair.session.score(
                        wish(
                            answer_ids=tuple(ids),
                            first=max(0, len(ids) - 5),
                            base="left",
                            messages=messages,
                        )
                    )
                )
            done = next(
                (e for e in pair.events if isinstance(e, Done) and e.request_id == request_id),
                None,
            )
        assert done.text == expected[0].text
        again = written(pair, turns[0], done.text, turns[1])
        assert again.text == expected[1].text


def written(log: Log, *turns: str) -> Done:
    request_id = log.session.chat(replace(chat(*turns, sampling=LONG, max_tokens=60), slot="left"))
    event = log.until(lambda e: isinstance(e, Done | Failed) and e.request_id == request_id)
    assert isinstance(event, Done), event
    return event


@pytest.mark.starter
def test_the_starter_is_scored_as_it_is_evaluated(starter_path: Path) -> None:
    session = Session()
    log = Log(session)
    size = 1024
    try:
        for slot, scheme in (("left", "fp16"), ("right", "int4")):
            log.load(slot=slot, model=str(starter_path), scheme=scheme, context_tokens=size)
        question = "Tell me why the sky is blue. " * 45
        answer = written(log, question)
        ids = tuple(e.token_id for e in log.events if isinstance(e, Token))
        assert answer.metrics.prompt_tokens > 256, "more than one chunk"
        request = wish(
            answer_ids=ids, messages=(Message("user", question),), base="left", exact=True
        )
        exact = scores_of(log, request)
        live = scores_of(log, replace(request, exact=False))
    finally:
        session.close()
    subject = open_subject(str(starter_path))
    try:
        positions = evaluated(
            subject, request, base=("fp16", "auto"), other=("int4", "auto"), context_tokens=size
        )
    finally:
        subject.close()
    agrees(exact, positions, 1e-6)
    assert mean_kl(exact) == pytest.approx(float(positions.kl.mean()), abs=1e-6)
    assert mean_kl(live) == pytest.approx(mean_kl(exact), rel=0.2, abs=0.002)
