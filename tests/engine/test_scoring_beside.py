"""Scoring beside answers and failures: who goes first, who gives way, who lives on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine_log import GREEDY, LONG, Log, chat
from failing_ops import LOST, OOM, Faults
from score_log import ended, refused, scores_of, wish

from quantchat.engine import scorings
from quantchat.engine.session import Session
from quantchat.events import Done, Failed, Scored, Token, Unloaded
from quantchat.requests import LoadRequest, Message

CONTEXT = 256


def load_both(log: Log, tiny: Path, context_tokens: int = CONTEXT) -> None:
    for slot, scheme in (("left", "fp16"), ("right", "int4")):
        log.load(slot=slot, model=str(tiny), scheme=scheme, context_tokens=context_tokens)


def long_answer(log: Log, slot: str = "left") -> tuple[str, Done]:
    """A prompt that the model answers until its context is full, and that answer."""
    for number in range(30):
        prompt = f"question {number}"
        done = answered(log, ask(log, prompt, slot))
        if done.finish_reason == "context":
            return prompt, done
    raise AssertionError("every answer ended early")


def ask(log: Log, prompt: str, slot: str = "left") -> int:
    return log.session.chat(replace(chat(prompt, sampling=LONG, max_tokens=0), slot=slot))


def answered(log: Log, request_id: int) -> Done:
    known = [e for e in log.events if isinstance(e, Done) and e.request_id == request_id]
    if known:
        return known[0]
    event = log.until(lambda e: isinstance(e, Done | Failed) and e.request_id == request_id)
    assert isinstance(event, Done), event
    return event


def test_scoring_goes_on_while_an_answer_streams(log: Log, tiny: Path) -> None:
    load_both(log, tiny)
    prompt, expected = long_answer(log)
    request_id = ask(log, prompt)
    log.until(lambda e: isinstance(e, Token) and e.request_id == request_id)
    scoring = log.session.score(wish(60, base="left"))
    scores, last = ended(log, scoring)
    assert isinstance(last, Scored) and len(scores) == 60
    done = answered(log, request_id)
    assert last.time_s < done.time_s, "the answer was over before its scores came"
    parts = [e for e in log.events if isinstance(e, Scored) and e.request_id == scoring]
    assert max(len(part.scores) for part in parts) <= scorings.BESIDE.cpu_tokens
    assert done.text == expected.text and done.finish_reason == "context"


def test_an_exact_scoring_waits_for_the_answer(log: Log, tiny: Path) -> None:
    load_both(log, tiny)
    prompt, expected = long_answer(log)
    request_id = ask(log, prompt)
    log.until(lambda e: isinstance(e, Token) and e.request_id == request_id)
    scores, last = ended(log, log.session.score(wish(60, base="left", exact=True)))
    assert len(scores) == 60
    done = answered(log, request_id)
    assert done.time_s < last.time_s and done.text == expected.text


def test_an_answer_takes_the_pages_of_a_scoring(log: Log, tiny: Path) -> None:
    """The answer fills its whole context while a scoring in the same slot wants most of it."""
    load_both(log, tiny, 128)
    prompt, expected = long_answer(log)
    request_id = ask(log, prompt)
    log.until(lambda e: isinstance(e, Token) and e.request_id == request_id)
    scores, last = ended(log, log.session.score(wish(60, slot="left")))
    assert isinstance(last, Scored) and len(scores) == 60
    done = answered(log, request_id)
    assert (done.text, done.finish_reason) == (expected.text, "context")
    # Nothing is left held: an answer of the whole context finds its pages again.
    assert answered(log, ask(log, prompt)).text == expected.text


def test_cancel_ends_a_scoring_and_the_next_one_runs(log: Log, tiny: Path) -> None:
    load_both(log, tiny)
    first, second = log.session.score(wish(150, base="left")), log.session.score(wish(150))
    log.session.cancel(first)
    log.session.cancel(second)
    for request_id in (first, second):
        scores, last = ended(log, request_id)
        assert isinstance(last, Scored) and last.done
        assert last.scores == () or len(scores) == 150
    log.session.cancel(first)
    assert len(scores_of(log, wish(base="left"))) == 40


@pytest.mark.parametrize("gone", ["left", "right"])
def test_unloading_fails_what_needs_the_slot(log: Log, tiny: Path, gone: str) -> None:
    load_both(log, tiny)
    prompt, _ = long_answer(log, "right" if gone == "left" else "left")
    busy = ask(log, prompt, "right" if gone == "left" else "left")
    request_id = log.session.score(wish(200, base="left"))
    log.session.unload(gone)
    _, last = ended(log, request_id)
    assert isinstance(last, Failed) and "unloaded" in last.message and last.hint
    assert "no model" in refused(log, wish(base="left")).message
    assert answered(log, busy).finish_reason == "context"
    left = "right" if gone == "left" else "left"
    assert len(scores_of(log, wish(slot=left))) == 40


def test_a_switch_of_scheme_fails_what_was_being_scored(log: Log, tiny: Path) -> None:
    load_both(log, tiny)
    prompt, _ = long_answer(log)
    ask(log, prompt)
    # Exact, so that it is still waiting when the new model comes.
    request_id = log.session.score(wish(200, base="left", exact=True))
    log.session.load(LoadRequest(slot="right", model=str(tiny), scheme="int8", context_tokens=64))

    def ends() -> list[Scored | Failed]:
        own = [e for e in log.events if isinstance(e, Scored | Failed)]
        return [
            e
            for e in own
            if e.request_id == request_id and not (isinstance(e, Scored) and not e.done)
        ]

    log.until(lambda _: bool(ends()))
    if isinstance(ends()[0], Scored):
        pytest.skip("the scoring was quicker than the load")
    assert len(ends()) == 1


def test_two_slots_with_the_same_weights_are_scored(log: Log, tiny: Path) -> None:
    log.load(slot="left", model=str(tiny), scheme="int8", kv="16bit", context_tokens=CONTEXT)
    right = log.load(
        slot="right", model=str(tiny), scheme="int8", kv="int4", context_tokens=CONTEXT
    )
    assert any("shared" in reason for reason in right.info.reasons)
    exact = scores_of(log, wish(base="left", exact=True))
    same = scores_of(log, wish(slot="left", base="left", exact=True))
    assert max(score.kl or 0.0 for score in exact) > 1e-5, "the KV precisions differ"
    assert all(score.kl == 0 and score.same_top for score in same)


def test_no_memory_ends_the_scoring_alone(log: Log, tiny: Path, faults: Faults) -> None:
    load_both(log, tiny)
    before = scores_of(log, wish(base="left", exact=True))
    faults.prefill.append(OOM)
    failed = refused(log, wish(base="left", exact=True))
    assert "scoring an answer" in failed.message and failed.hint
    assert scores_of(log, wish(base="left", exact=True)) == before


def test_a_failing_device_ends_the_scoring_and_its_pages_serve_again(
    log: Log, tiny: Path, faults: Faults
) -> None:
    load_both(log, tiny, 128)
    prompt, expected = long_answer(log)
    for fault in (RuntimeError("something else"), LOST):
        faults.prefill.append(fault)
        failed = refused(log, wish(60, slot="left"))
        assert failed.message and failed.hint
    done = answered(log, ask(log, prompt))
    assert (done.text, done.finish_reason) == (expected.text, "context")


def test_scorings_in_line_come_in_order(log: Log, tiny: Path) -> None:
    load_both(log, tiny)
    ids = [log.session.score(wish(20 + n, base="left")) for n in range(5)]
    ended(log, ids[-1])
    order = [e.request_id for e in log.events if isinstance(e, Scored) and e.done]
    assert order == ids


def test_a_failed_answer_leaves_the_scoring_right(log: Log, tiny: Path, faults: Faults) -> None:
    """A failed step gives the model new pages; a scoring under way begins its own anew."""
    load_both(log, tiny)
    expected = scores_of(log, wish(200, slot="left"))
    prompt, _ = long_answer(log)
    faults.decode.append(RuntimeError("something broke"))
    faults.decode_after = 3
    request_id = log.session.chat(replace(chat(prompt, sampling=GREEDY), slot="left"))
    scoring = log.session.score(wish(200, slot="left", messages=(Message("user", "x"),)))
    log.until(lambda e: isinstance(e, Failed) and e.request_id == request_id)
    scores, last = ended(log, scoring)
    assert isinstance(last, Scored) and len(scores) == 200
    again = scores_of(log, wish(200, slot="left"))
    for score, same in zip(again, expected, strict=True):
        assert score.p == pytest.approx(same.p, abs=0.05)


def test_closing_while_scoring(tiny: Path) -> None:
    session = Session()
    log = Log(session)
    load_both(log, tiny)
    session.score(wish(200, base="left"))
    session.close()
    assert not session._thread.is_alive()
    assert not [e for e in session.drain() if isinstance(e, Unloaded)]
