"""Search finds words in titles and turns, as far as they are finished."""

from __future__ import annotations

import pytest

from quantchat.store.chats import Chats


@pytest.fixture
def chat_id(chats: Chats) -> int:
    chats.create(title="Other")
    chat = chats.create(title="Über Farben 100%")
    user = chats.add_turn(chat.id, None, "user", "Why is the sky blue?")
    chats.add_turn(chat.id, user.id, "assistant", 'It is "Rayleigh" scattering; 光の散乱です.')
    old = chats.add_turn(chat.id, user.id, "assistant", "An older version: ÉTÉ under_score")
    chats.choose(old.id)
    return chat.id


@pytest.mark.parametrize(
    "query",
    [
        "sky",
        "SKY blue",
        "blue sky",
        "ray",
        "leigh scatt",
        '"Rayleigh"',
        "散乱です",
        "散乱",
        "光",
        "été",
        "über",
        "ÜBER sky",
        "100%",
        "is",
        "under_score",
        "",
        "   ",
    ],
)
def test_finds(chats: Chats, chat_id: int, query: str) -> None:
    assert chat_id in {chat.id for chat in chats.list(search=query)}


@pytest.mark.parametrize(
    "query", ["green", "sky green", "%%", "__", "a%b", '"', '""" OR', "NEAR(", "x*", "-sky", "\\"]
)
def test_finds_nothing_and_does_not_fail(chats: Chats, chat_id: int, query: str) -> None:
    found = {chat.id for chat in chats.list(search=query)}
    assert found == ({chat_id} if query == '"' else set())


def test_a_streaming_turn_is_found_when_it_ends(chats: Chats) -> None:
    chat = chats.create()
    turn = chats.add_turn(chat.id, None, "assistant", state="streaming")
    chats.append_text(turn.id, "photosynthesis")
    chats.finish_turn(turn.id, "stopped", "photosynthesis in leaves")
    assert [found.id for found in chats.list(search="photosynthesis leaves")] == [chat.id]
    chats.finish_turn(turn.id, "complete", "chlorophyll")
    assert chats.list(search="photosynthesis") == ()
    assert [found.id for found in chats.list(search="chlorophyll")] == [chat.id]
