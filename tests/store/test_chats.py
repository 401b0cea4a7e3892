"""Conversations as a tree of turns."""

from __future__ import annotations

import math
import threading

import pytest

from quantchat.errors import StoreError
from quantchat.store.chats import Chats
from quantchat.store.db import Database
from quantchat.store.records import Turn, title_from


def contents(turns: tuple[Turn, ...]) -> list[str]:
    return [turn.content for turn in turns]


def test_a_new_chat_keeps_what_it_was_given(chats: Chats) -> None:
    chat = chats.create(model="starter", scheme="int4", kv="int8", system_prompt="Be brief.")
    assert chats.get(chat.id) == chat
    assert (chat.model, chat.scheme, chat.kv) == ("starter", "int4", "int8")
    assert chat.system_prompt == "Be brief." and chat.title == "" and not chat.pinned
    assert chats.path(chat.id) == ()


def test_title_comes_from_the_first_user_turn_and_stays(chats: Chats) -> None:
    chat = chats.create()
    system = chats.add_turn(chat.id, None, "system", "You are kind.")
    assert chats.get(chat.id).title == ""
    user = chats.add_turn(chat.id, system.id, "user", "\n\n## Why is *the* sky blue?\nThanks")
    assert chats.get(chat.id).title == "Why is the sky blue?"
    chats.add_turn(chat.id, user.id, "user", "another")
    assert chats.get(chat.id).title == "Why is the sky blue?"
    assert chats.rename(chat.id, "  My\n title ").title == "My title"
    chats.add_turn(chat.id, user.id, "user", "third")
    assert chats.get(chat.id).title == "My title"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("", ""),
        (" \n`` \n", ""),
        ("short", "short"),
        ("word " * 30, "word word word word word word word word word word word word…"),
        ("x" * 100, "x" * 60 + "…"),
    ],
)
def test_title_is_cut_between_words(text: str, title: str) -> None:
    assert title_from(text) == title


def test_regenerating_adds_a_version_and_choosing_flips(chats: Chats) -> None:
    chat = chats.create()
    user = chats.add_turn(chat.id, None, "user", "q")
    first = chats.add_turn(chat.id, user.id, "assistant", "one", scheme="fp16")
    follow = chats.add_turn(chat.id, first.id, "user", "and then?")
    second = chats.add_turn(chat.id, user.id, "assistant", "two", scheme="int4")
    assert contents(chats.path(chat.id)) == ["q", "two"]
    versions = chats.siblings(first.id)
    assert [(turn.id, turn.version, turn.versions, turn.active) for turn in versions] == [
        (first.id, 0, 2, False),
        (second.id, 1, 2, True),
    ]
    assert contents(chats.choose(first.id)) == ["q", "one", "and then?"]
    assert chats.turn(follow.id).active
    assert [turn.scheme for turn in chats.siblings(second.id)] == ["fp16", "int4"]


def test_editing_the_first_turn_branches_the_whole_chat(chats: Chats) -> None:
    chat = chats.create()
    old = chats.add_turn(chat.id, None, "user", "old")
    answer = chats.add_turn(chat.id, old.id, "assistant", "old answer")
    deep = chats.add_turn(chat.id, answer.id, "user", "deep")
    new = chats.add_turn(chat.id, None, "user", "new")
    assert contents(chats.path(chat.id)) == ["new"]
    assert new.version == 1
    assert contents(chats.choose(deep.id)) == ["old", "old answer", "deep"]


def test_roots_of_two_chats_do_not_mix(chats: Chats) -> None:
    one, two = chats.create(), chats.create()
    first = chats.add_turn(one.id, None, "user", "one")
    chats.add_turn(two.id, None, "user", "two")
    assert contents(chats.siblings(first.id)) == ["one"]
    assert contents(chats.path(one.id)) == ["one"] and contents(chats.path(two.id)) == ["two"]
    with pytest.raises(StoreError):
        chats.add_turn(two.id, first.id, "assistant", "lost")
    assert contents(chats.path(two.id)) == ["two"], "a refused turn changes nothing"


def test_streaming_then_finishing(chats: Chats) -> None:
    chat = chats.create()
    turn = chats.add_turn(chat.id, None, "assistant", state="streaming", model="starter")
    for piece in ("Hel", "lo ", "wörld 漢", "", "\n"):
        chats.append_text(turn.id, piece)
    assert chats.turn(turn.id).content == "Hello wörld 漢\n"
    assert chats.turn(turn.id).state == "streaming"
    done = chats.finish_turn(
        turn.id, "complete", "Hello wörld 漢\n!", {"ttft_s": 0.25, "prompt_tokens": 7}
    )
    assert done == chats.turn(turn.id)
    assert done.state == "complete" and done.content.endswith("!")
    assert done.metrics == {"ttft_s": 0.25, "prompt_tokens": 7}
    with pytest.raises(StoreError):
        chats.append_text(turn.id, "late")


def test_another_model_takes_a_turn_over_with_the_text_that_came_already(chats: Chats) -> None:
    chat = chats.create(model="starter", scheme="fp16")
    ids = [
        chats.add_turn(chat.id, None, "assistant", "<think>\n\ud800", state="streaming").id
        for _ in range(2)
    ]
    chats.append_text(ids[1], "hm")
    for turn_id, text in zip(ids, ("", "hm"), strict=True):
        facts = {"model": "other", "scheme": "int4", "kv": "int8"}
        turn = chats.hand_over(turn_id, "<think>\n\ud800", "[THINK]", **facts)
        assert turn.content == f"[THINK]{text}" and (turn.model, turn.kv) == ("other", "int8")
        assert chats.get(chat.id).scheme == "int4"


def test_a_failed_turn_keeps_text_and_reason(chats: Chats) -> None:
    chat = chats.create()
    turn = chats.add_turn(chat.id, None, "assistant", state="streaming")
    failed = chats.finish_turn(turn.id, "failed", "half", {"x": math.inf}, note="out of memory")
    assert (failed.state, failed.content, failed.note) == ("failed", "half", "out of memory")
    assert failed.metrics == {}


def test_text_that_sqlite_cannot_hold_is_replaced(chats: Chats) -> None:
    chat = chats.create()
    turn = chats.add_turn(chat.id, None, "user", "a\x00b\ud800c 😀")
    assert turn.content == "a\ufffdb\ufffdc 😀"


def test_delete_restore_purge(chats: Chats, database: Database) -> None:
    keep, drop = chats.create(title="keep"), chats.create(title="drop")
    turn = chats.add_turn(drop.id, None, "user", "secretive words")
    chats.add_turn(drop.id, turn.id, "assistant", "reply")
    chats.delete(drop.id)
    assert [chat.id for chat in chats.list()] == [keep.id]
    assert chats.list(search="secretive") == ()
    assert chats.restore(drop.id).title == "drop"
    assert len(chats.list()) == 2
    chats.delete(drop.id)
    assert chats.purge(older_than_s=60.0) == 0
    assert chats.purge() == 1
    with pytest.raises(StoreError):
        chats.get(drop.id)
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM turns").fetchone()[0] == 0
        assert not connection.execute(
            "SELECT rowid FROM turns_text WHERE turns_text MATCH 'secretive'"
        ).fetchall()


def test_list_puts_pinned_first_then_the_latest(chats: Chats) -> None:
    a, b, c = (chats.create(title=name) for name in "abc")
    chats.add_turn(a.id, None, "user", "wakes a up")
    chats.pin(b.id, True)
    assert [chat.title for chat in chats.list()] == ["b", "a", "c"]
    assert [chat.id for chat in chats.list(limit=2)] == [b.id, a.id]
    assert not chats.pin(b.id, False).pinned
    assert c.id in {chat.id for chat in chats.list()}


def test_configure_changes_only_what_is_given(chats: Chats) -> None:
    chat = chats.create(model="starter", scheme="fp16", system_prompt="s")
    changed = chats.configure(chat.id, scheme="int4", system_prompt="")
    assert (changed.model, changed.scheme, changed.system_prompt) == ("starter", "int4", "")
    assert chats.configure(chat.id) == changed


@pytest.mark.parametrize("call", ["get", "delete", "path", "restore", "turn", "siblings", "choose"])
def test_what_is_gone_is_said(chats: Chats, call: str) -> None:
    with pytest.raises(StoreError, match="99 is gone"):
        getattr(chats, call)(99)


def test_many_threads_share_one_store(chats: Chats) -> None:
    chat = chats.create()
    turns = [chats.add_turn(chat.id, None, "assistant", state="streaming") for _ in range(4)]
    failures: list[BaseException] = []

    def stream(turn: Turn) -> None:
        try:
            for number in range(50):
                chats.append_text(turn.id, f"{number} ")
                chats.path(chat.id)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=stream, args=(turn,)) for turn in turns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    wanted = "".join(f"{number} " for number in range(50))
    assert [turn.content for turn in chats.siblings(turns[0].id)] == [wanted] * 4


def test_a_long_conversation_is_read_at_once(chats: Chats) -> None:
    chat = chats.create()
    parent: int | None = None
    for number in range(400):
        parent = chats.add_turn(
            chat.id, parent, "user" if number % 2 == 0 else "assistant", f"turn {number}"
        ).id
    assert contents(chats.path(chat.id)) == [f"turn {number}" for number in range(400)]
