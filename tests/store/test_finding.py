"""Pages of the list, what is shown of what was found, tags, and searches that are given up."""

from __future__ import annotations

import threading
import time

import pytest

from quantchat.errors import Cancelled, StoreError
from quantchat.store.chats import Chats
from quantchat.store.db import Database
from quantchat.store.finding import all_tags, find
from quantchat.store.search import matches, parsed, snippet
from quantchat.store.tags import TAG_LIMIT, TAGS_MAX, clean, shown, tags_from, with_changes


def titles(database: Database, search: str = "", limit: int = 100, offset: int = 0) -> list[str]:
    page = find(database, search, limit=limit, offset=offset)
    return [each.chat.title for each in page.found]


def test_pages_follow_one_another_and_say_how_many_there_are(
    database: Database, chats: Chats
) -> None:
    for number in range(25):
        chats.create(title=f"{number}")
    chats.pin(chats.list()[-1].id, True)
    seen: list[str] = []
    for offset in (0, 10, 20):
        page = find(database, limit=10, offset=offset)
        assert page.total == 25
        seen += [each.chat.title for each in page.found]
    assert seen == ["0", *(f"{number}" for number in range(24, 0, -1))]
    assert find(database, limit=10, offset=30).found == ()


def test_the_latest_is_the_one_that_changed_last_pinned_or_not(chats: Chats) -> None:
    assert chats.latest() is None
    first, second = chats.create(title="first"), chats.create(title="second")
    chats.pin(first.id, True)
    assert chats.latest() == second
    chats.delete(second.id)
    assert chats.latest() == chats.get(first.id)


def test_tags_are_found_by_their_beginning_and_without_regard_to_case(
    database: Database, chats: Chats
) -> None:
    one = chats.create(title="one", tags=("Work", "übung"))
    two = chats.create(title="two #work")
    chats.create(title="three", tags=("homework", "a_b"))
    assert titles(database, "#work") == ["one"]
    assert titles(database, "#WOR") == ["one"] and titles(database, "#ÜB one") == ["one"]
    assert titles(database, "\\#work") == ["two #work"]
    assert titles(database, "#a_") == ["three"] and titles(database, "#a%") == []
    assert titles(database, "#work #home") == [] and titles(database, "#work two") == []
    assert all_tags(database) == {"a_b": 1, "homework": 1, "Work": 1, "übung": 1}
    chats.configure(two.id, tags=("Work",))
    chats.delete(one.id)
    assert all_tags(database) == {"a_b": 1, "homework": 1, "Work": 1}
    assert chats.configure(two.id, tags=()).tags == ()


def test_what_was_found_is_shown_from_the_turn_with_the_most_of_it(
    database: Database, chats: Chats
) -> None:
    chat = chats.create(title="t")
    user = chats.add_turn(chat.id, None, "user", "apples alone")
    chats.add_turn(chat.id, user.id, "assistant", "x " * 400 + "Apples\n\nand PEARS together " * 2)
    (found,) = find(database, "apples pears", limit=5).found
    assert "Apples and PEARS together" in found.snippet
    assert found.snippet.startswith("…") and len(found.snippet) < 200
    (found,) = find(database, "t", limit=5).found
    assert found.snippet
    assert find(database, "", limit=5).found[0].snippet == ""
    assert find(database, "zebra", limit=5).found == ()


@pytest.mark.parametrize(
    ("content", "terms", "wanted"),
    [
        ("nothing here", ("zebra",), ""),
        ("", ("a",), ""),
        ("one two", ("two",), "one two"),
        ("a.b*c", (".b*",), "a.b*c"),
        ("STRASSE 100%", ("100%",), "STRASSE 100%"),
    ],
)
def test_snippets(content: str, terms: tuple[str, ...], wanted: str) -> None:
    assert snippet(content, terms) == wanted


def test_matches_do_not_overlap_and_the_longest_word_wins() -> None:
    assert matches("foobar foo", ("foo", "foobar")) == [(0, 6), (7, 10)]
    assert matches("anything", ()) == []


def test_the_language_of_the_search_field() -> None:
    assert parsed("  a #b \\#c # ##") == parsed("a #b \\#c # ##")
    assert parsed("a #b \\#c #").terms == ("a", "#c", "#")
    assert parsed("a #b \\#c #").tags == ("b",)


def test_a_search_that_is_not_wanted_any_more_is_given_up(database: Database, chats: Chats) -> None:
    for _ in range(40):
        chats.add_turn(chats.create().id, None, "user", "word " * 2000)
    asked = 0

    def unwanted() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2

    with pytest.raises(Cancelled):
        while True:
            find(database, "é wo rd", limit=1000, unwanted=unwanted)
    assert len(find(database, "wo", limit=100).found) == 40, "the next one is wanted"


def test_a_search_does_not_hold_up_who_writes(database: Database, chats: Chats) -> None:
    chat = chats.create(title="t")
    inside, written = threading.Event(), threading.Event()

    def read() -> None:
        with database.search() as connection:
            connection.execute("SELECT * FROM chats").fetchone()
            inside.set()
            written.wait(60)

    reader = threading.Thread(target=read)
    reader.start()
    assert inside.wait(60)
    chats.rename(chat.id, "renamed")
    assert chats.get(chat.id).title == "renamed"
    assert reader.is_alive(), "the search is still under way"
    written.set()
    reader.join()
    database.close()
    with pytest.raises(StoreError, match="closed"), database.search():
        pass


def test_what_was_deleted_together_comes_back_together(database: Database, chats: Chats) -> None:
    ids = [chats.create(title=name).id for name in "abcd"]
    assert chats.undelete() == ()
    chats.delete(ids[0])
    time.sleep(0.002)
    chats.delete(ids[1], ids[2])
    assert titles(database) == ["d"]
    assert {chat.title for chat in chats.undelete()} == {"b", "c"}
    assert [chat.title for chat in chats.undelete()] == ["a"]
    assert chats.undelete() == () and len(titles(database)) == 4
    with pytest.raises(StoreError, match="gone"):
        chats.delete(ids[0], 999)
    assert len(titles(database)) == 4, "all or none"


def test_nothing_is_written_into_a_deleted_conversation(chats: Chats) -> None:
    chat = chats.create(title="t")
    turn = chats.add_turn(chat.id, None, "assistant", "half", state="streaming")
    chats.delete(chat.id)
    with pytest.raises(StoreError, match="was deleted") as caught:
        chats.add_turn(chat.id, turn.id, "user", "lost")
    assert caught.value.hint
    chats.append_text(turn.id, " of it")
    chats.finish_turn(turn.id, "stopped", "half of it")
    assert chats.restore(chat.id).title == "t"
    assert [each.content for each in chats.path(chat.id)] == ["half of it"]


def test_a_conversation_shows_what_answered_last(chats: Chats) -> None:
    chat = chats.create(model="starter", scheme="auto", kv="auto")
    turn = chats.add_turn(chat.id, None, "user", "q")
    assert chats.get(chat.id).scheme == "auto"
    chats.add_turn(chat.id, turn.id, "assistant", "a", model="starter", scheme="int4", kv="int8")
    now = chats.get(chat.id)
    assert (now.model, now.scheme, now.kv) == ("starter", "int4", "int8")


def test_sampling_and_tags_are_kept_and_cleared(chats: Chats) -> None:
    chat = chats.create(sampling={"temperature": 0.5}, tags=("a",), title="x" * 500)
    assert chat.sampling == {"temperature": 0.5} and len(chat.title) == 200
    assert chats.configure(chat.id, model="m").sampling == {"temperature": 0.5}
    assert chats.configure(chat.id, sampling={"seed": 1}, tags=("b", "B")).tags == ("b",)
    assert chats.configure(chat.id, sampling={}).sampling is None


def test_tags_are_words() -> None:
    assert tags_from("#a, b;c\n##d  a A") == ("a", "b", "c", "d")
    assert tags_from(" , # ") == ()
    assert clean(["two words", "x" * 99, "\x1b[2J"]) == ("twowords", "x" * TAG_LIMIT, "[2J")
    assert len(tags_from(" ".join(map(str, range(99))))) == TAGS_MAX
    assert shown(("a", "b")) == "#a #b"
    assert with_changes(("a", "B"), ("c", "A"), ("#b",)) == ("a", "c")
