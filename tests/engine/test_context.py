"""The context policy: what goes, what stays, what is refused."""

from __future__ import annotations

import pytest

from quantchat.engine.context import answer_room, fit_prompt
from quantchat.errors import EngineError
from quantchat.requests import Message

SYSTEM = Message("system", "s" * 10)


def turns(count: int, size: int = 20) -> tuple[Message, ...]:
    roles = ("user", "assistant")
    return tuple(Message(roles[i % 2], chr(97 + i % 26) * size) for i in range(count))


def encode(messages: tuple[Message, ...]) -> list[int]:
    return [ord(c) for message in messages for c in message.content]


def fit(messages: tuple[Message, ...], context: int) -> tuple[str, int]:
    fitted = fit_prompt(messages, encode, context_tokens=context, max_tokens=10)
    return "".join(map(chr, fitted.ids)), fitted.dropped_messages


def test_what_fits_stays_whole() -> None:
    messages = (SYSTEM, *turns(3))
    assert fit(messages, 80) == ("".join(m.content for m in messages), 0)


def test_oldest_turns_go_in_pairs_and_the_system_prompt_stays() -> None:
    text, dropped = fit((SYSTEM, *turns(5)), 90)
    assert dropped == 2
    assert text == SYSTEM.content + "c" * 20 + "d" * 20 + "e" * 20


def test_as_few_as_possible_go() -> None:
    for context in range(40, 200, 7):
        text, dropped = fit((SYSTEM, *turns(9)), context)
        assert len(text) <= context - 10
        if dropped:
            assert len(text) + 40 > context - 10


def test_a_last_message_that_is_too_long_is_refused_with_numbers() -> None:
    with pytest.raises(EngineError, match="110 tokens") as caught:
        fit((SYSTEM, Message("user", "x" * 100)), 90)
    assert "80" in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    ("longest", "offered"), [(0, ()), (2_000, ()), (2_600, (2_600,)), (100_000, (5_120,))]
)
def test_a_longer_context_is_offered_where_the_message_fits_into_one(
    longest: int, offered: tuple[int, ...]
) -> None:
    messages = (Message("user", "x" * 2_048),)
    with pytest.raises(EngineError) as caught:
        fit_prompt(messages, encode, context_tokens=1_024, max_tokens=0, longest_tokens=longest)
    assert tuple(way.value for way in caught.value.ways) == offered
    assert all(way.field == "context_tokens" for way in caught.value.ways)


@pytest.mark.parametrize(
    ("context", "maximum", "room"), [(8192, 0, 512), (1000, 0, 250), (8192, 32, 32), (2, 0, 1)]
)
def test_room_for_the_answer(context: int, maximum: int, room: int) -> None:
    assert answer_room(context, maximum) == room
