"""Answers that begin with given tokens: exact ids, only new text, no broken characters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from engine_log import GREEDY, LONG, Log, chat

from quantchat.engine.metrics import Clock
from quantchat.engine.sequence import Sequence
from quantchat.engine.session import Session
from quantchat.events import Done, Failed, FinishReason, Started, Token
from quantchat.requests import Sampling
from quantchat.tokenizer import Detokenizer, from_folder


@pytest.fixture(scope="module")
def log(tiny: Path) -> Iterator[Log]:
    session = Session()
    log = Log(session)
    log.load(model=str(tiny), scheme="fp16", context_tokens=256)
    yield log
    session.close()


def tokens_of(log: Log, request_id: int) -> list[Token]:
    return [e for e in log.of(Token) if isinstance(e, Token) and e.request_id == request_id]


def answer(log: Log, **wish: object) -> tuple[Done, list[Token]]:
    request_id = log.session.chat(chat("hello there", **wish))  # type: ignore[arg-type]
    event = log.until(lambda e: isinstance(e, Done | Failed) and e.request_id == request_id)
    assert isinstance(event, Done), event
    return event, tokens_of(log, request_id)


@pytest.mark.parametrize(
    "sampling",
    [GREEDY, LONG, replace(LONG, repetition_penalty=1.2)],
    ids=["greedy", "drawn", "penalty"],
)
def test_a_prefix_goes_on_as_its_answer_did(log: Log, tiny: Path, sampling: Sampling) -> None:
    tokenizer = from_folder(tiny)
    _, tokens = answer(log, sampling=sampling, max_tokens=13)
    ids = tuple(token.token_id for token in tokens)
    assert len(ids) == 13, "the seed is chosen so that the answer is long enough"
    same = 0
    for cut in range(1, 12):
        rest, new = answer(log, sampling=sampling, max_tokens=2, prefix_ids=ids[:cut])
        fresh = tuple(token.token_id for token in new)
        assert [token.index for token in new] == list(range(rest.metrics.completion_tokens))
        head = "".join(token.text for token in tokens[:cut])
        stream = Detokenizer(tokenizer)
        assert head + rest.text == "".join(map(stream.push, ids[:cut] + fresh))
        same += fresh == ids[cut : cut + 2]
    # Read as a prompt, tokens give the same numbers but for rounding, which turns a near tie.
    assert same >= 8


def test_the_prefix_is_part_of_the_prompt(log: Log) -> None:
    plain, _ = answer(log, max_tokens=1)
    longer, _ = answer(log, max_tokens=1, prefix_ids=(40, 41, 42))
    assert longer.metrics.prompt_tokens == plain.metrics.prompt_tokens + 3
    started = [e for e in log.of(Started) if isinstance(e, Started)]
    assert started[-1].prompt_tokens == longer.metrics.prompt_tokens


def test_a_character_that_began_in_the_prefix_comes_whole(tiny: Path) -> None:
    tokenizer = from_folder(tiny)
    ids = tokenizer.encode("東", add_bos=False)
    assert len(ids) == 3, "one token a byte"

    def behind(prefix: list[int]) -> Detokenizer:
        request = chat("x", prefix_ids=tuple(prefix))
        clock = Clock(submitted_s=0.0, dequeued_s=0.0)
        return Sequence.create(
            1, request, seed=0, ids=list(prefix), clock=clock, tokenizer=tokenizer
        ).detokenizer

    two = behind(ids[:2])
    assert two.push(ids[2]) == "東" and two.flush() == ""
    one = behind(ids[:1])
    assert (one.push(ids[1]), one.push(ids[2])) == ("", "東")
    # Where the character never ends, all of it is what decoding at one go makes of it.
    (letter,) = tokenizer.encode("a", add_bos=False)
    assert behind(ids[:2]).push(letter) == tokenizer.decode([*ids[:2], letter]) == "\ufffda"


@pytest.mark.parametrize(
    ("reason", "end"), [("stop", "\ufffd"), ("cancelled", ""), ("length", ""), ("context", "")]
)
def test_a_character_that_was_cut_short_is_left_out(
    tiny: Path, reason: FinishReason, end: str
) -> None:
    tokenizer = from_folder(tiny)
    ids = tokenizer.encode("a東", add_bos=False)
    clock = Clock(submitted_s=0.0, dequeued_s=0.0)
    sequence = Sequence.create(1, chat("x"), seed=0, ids=[], clock=clock, tokenizer=tokenizer)
    for token_id in ids[:-1]:
        sequence.text += sequence.stops.push(sequence.detokenizer.push(token_id))[0]
    sequence.end(reason)
    assert sequence.text == "a" + end
    assert sequence.finish == reason


@pytest.mark.parametrize("foreign", [-1, 352, 1 << 40])
def test_tokens_of_another_vocabulary_are_refused(log: Log, foreign: int) -> None:
    request_id = log.session.chat(chat("hello", prefix_ids=(5, foreign)))
    event = log.until(lambda e: isinstance(e, Done | Failed) and e.request_id == request_id)
    assert isinstance(event, Failed) and str(foreign) in event.message and event.hint
    assert log.ask("hello").metrics.completion_tokens >= 0


def test_a_prefix_beyond_the_context_is_refused(log: Log) -> None:
    request_id = log.session.chat(chat("hello", prefix_ids=(40,) * 300))
    event = log.until(lambda e: isinstance(e, Done | Failed) and e.request_id == request_id)
    assert isinstance(event, Failed) and "256" in event.message and event.hint


def test_a_prefix_and_a_text_to_continue_exclude_each_other(log: Log) -> None:
    request_id = log.session.chat(chat("hello", "so", continue_last=True, prefix_ids=(40,)))
    event = log.until(lambda e: isinstance(e, Done | Failed) and e.request_id == request_id)
    assert isinstance(event, Failed) and "not from both" in event.message
