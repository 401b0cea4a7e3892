"""How full the context will be: estimated from what was counted, as the engine will have it."""

from __future__ import annotations

import dataclasses

import pytest

from quantchat.engine.context import fit_prompt
from quantchat.requests import Message
from quantchat.store.records import Figures, Turn
from quantchat.tui.control.context_room import (
    TURN_TOKENS,
    USUAL_BYTES_PER_TOKEN,
    bytes_per_token,
    weigh,
)
from quantchat.tui.control.said import messages_of

BYTES_PER_TOKEN = 4


def turn(number: int, content: str, metrics: Figures | None = None) -> Turn:
    return Turn(
        id=number,
        chat_id=1,
        parent_id=number - 1 or None,
        role="assistant" if number % 2 == 0 else "user",
        content=content,
        state="complete",
        model="",
        scheme="",
        kv="",
        metrics=metrics,
        note="",
        created_s=0.0,
        version=0,
        versions=1,
        active=True,
        attachments=(),
    )


def encode(messages: tuple[Message, ...]) -> list[int]:
    """Tokens of four characters, and what a template writes."""
    return [0] * sum(len(each.content) // BYTES_PER_TOKEN + TURN_TOKENS for each in messages)


def talked(exchanges: int, *, words: int = 400) -> list[Turn]:
    """A conversation as the engine counted it."""
    path: list[Turn] = []
    for number in range(exchanges):
        path.append(turn(2 * number + 1, "q" * words))
        prompt = len(encode(messages_of(path, "")))
        metrics = {"prompt_tokens": prompt, "completion_tokens": words // BYTES_PER_TOKEN}
        path.append(turn(2 * number + 2, "a" * words, metrics))
    return path


def test_nothing_is_known_of_an_empty_conversation() -> None:
    weighed = weigh([], "", limit=2048)
    assert (weighed.ratio, weighed.history) == (USUAL_BYTES_PER_TOKEN, 0)
    room = weighed.room(0, max_tokens=0)
    assert not room.nearly_full and not room.left_out and not room.draft_too_long
    assert weighed.room(36_000, max_tokens=0).draft_too_long


def test_bytes_per_token_come_from_what_was_counted() -> None:
    assert bytes_per_token(talked(2), 8192) == pytest.approx(BYTES_PER_TOKEN, rel=0.1)
    weighed = weigh(talked(2), "", limit=8192)
    assert weighed.history == pytest.approx(len(encode(messages_of(talked(2), ""))), rel=0.05)


@pytest.mark.parametrize("exchanges", range(1, 9))
def test_as_many_messages_are_left_out_as_the_engine_leaves_out(exchanges: int) -> None:
    path = talked(exchanges)
    limit, draft = 1500, "d" * 400
    messages = messages_of([*path, turn(2 * exchanges + 1, draft)], "")
    dropped = fit_prompt(messages, encode, context_tokens=limit, max_tokens=0).dropped_messages
    room = weigh(path, "", limit=limit).room(len(draft), max_tokens=0)
    assert room.left_out == dropped
    assert room.nearly_full == (dropped > 0 or room.share >= 0.85)


def test_reasoning_is_not_counted_for_the_next_question() -> None:
    thought = "<think>\n" + "t" * 4000 + "\n</think>\n\n" + "a" * 400
    path = talked(1)
    path[-1] = dataclasses.replace(
        path[-1],
        content=thought,
        metrics={"prompt_tokens": 106, "completion_tokens": 1106, "thought_tokens": 1000},
    )
    assert weigh(path, "", limit=8192).history == 212
