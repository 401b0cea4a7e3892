"""What was said of a file is remembered on disk."""

from __future__ import annotations

from quantchat.store.told import ROWS, first_time


def test_the_same_words_are_new_once_for_each_model_and_scheme() -> None:
    assert first_time("abc", "stored", ["re-encoded"])
    assert not first_time("abc", "stored", ["re-encoded"])
    assert first_time("abc", "int4", ["re-encoded"])
    assert first_time("other", "stored", ["re-encoded"])


def test_other_words_take_the_place_of_those_before() -> None:
    assert first_time("abc", "stored", ["error 1 %"])
    assert first_time("abc", "stored", ["error 2 %"])
    assert not first_time("abc", "stored", ["error 2 %"])
    assert ROWS.path().read_text().count("identity") == 1


def test_a_file_that_cannot_be_read_tells_again() -> None:
    assert first_time("abc", "stored", ["x"])
    ROWS.path().write_text("{broken")
    assert first_time("abc", "stored", ["x"])
