"""Windows of a text by the named methods."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantchat.errors import UsageError
from quantchat.evals.text import METHODS, cut, join_rows, method_named, read_text


class Letters:
    """A tokenizer of one id per character."""

    def __init__(self, *, adds_bos: bool) -> None:
        self.adds_bos = adds_bos
        self.bos_id = 9999

    def encode(self, text: str, *, add_bos: bool) -> list[int]:
        ids = [ord(letter) for letter in text]
        return [self.bos_id, *ids] if add_bos else ids


def test_academic_windows_score_all_but_the_first_token() -> None:
    text = "abcdefg" * 700
    passages = cut(
        text,
        Letters(adds_bos=True),
        METHODS["academic"],
        origin="t",
        max_scored_tokens=0,
    )
    assert [len(window.ids) for window in passages.windows] == [2048, 2048]
    assert passages.scored_tokens == 2 * 2047
    assert passages.windows[0].ids[0] == 9999
    assert 9999 not in passages.windows[1].ids
    joined = [i for window in passages.windows for i in window.ids]
    assert joined == [9999, *map(ord, text)][:4096]


def test_llama_cpp_windows_score_the_second_half_after_a_bos_each() -> None:
    text = "abcdefg" * 200
    passages = cut(
        text,
        Letters(adds_bos=True),
        METHODS["llama.cpp"],
        origin="t",
        max_scored_tokens=0,
    )
    assert [window.scored_tokens for window in passages.windows] == [255, 255]
    assert [window.ids[0] for window in passages.windows] == [9999, 9999]
    assert passages.windows[1].ids[1:] == tuple(map(ord, ("\0" + text)[513:1024]))


def test_a_model_without_bos_gets_none() -> None:
    passages = cut(
        "abc" * 400,
        Letters(adds_bos=False),
        METHODS["llama.cpp"],
        origin="t",
        max_scored_tokens=0,
    )
    assert all(9999 not in window.ids for window in passages.windows)


@pytest.mark.parametrize(("wanted", "windows"), [(1, 1), (255, 1), (256, 2), (10**6, 4)])
def test_tokens_are_rounded_up_to_windows(wanted: int, windows: int) -> None:
    passages = cut(
        "x" * 2100,
        Letters(adds_bos=False),
        METHODS["llama.cpp"],
        origin="t",
        max_scored_tokens=wanted,
    )
    assert len(passages.windows) == windows


def test_rows_are_joined_by_blank_lines() -> None:
    assert join_rows(" \n = A = \n \n b c \n") == "\n\n = A = \n\n\n\n\n b c \n"


@pytest.mark.parametrize("method", METHODS)
def test_a_short_text_is_refused_with_its_length(method: str) -> None:
    with pytest.raises(UsageError, match=r"t\.txt has 5 tokens"):
        cut(
            "hello",
            Letters(adds_bos=False),
            METHODS[method],
            origin="t.txt",
            max_scored_tokens=0,
        )


def test_unknown_methods_and_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"academic, llama\.cpp"):
        method_named("stride")
    with pytest.raises(UsageError, match="cannot be read"):
        read_text(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UsageError, match=r"not UTF-8 text \(byte 3\)"):
        read_text(tmp_path / "latin.txt")
