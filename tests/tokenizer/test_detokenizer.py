"""Streamed text is the whole text, a character at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_files import SAMPLE, byte_level_vocabulary, sentencepiece_vocabulary, write_gguf

from quantchat.checkpoints.gguf import GgufFile
from quantchat.tokenizer import Detokenizer, Tokenizer, from_gguf

KINDS = ("gpt2", "llama", "llama without prefix")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folder: Path = tmp_path_factory.mktemp("tokenizers")
    vocabularies = {
        "gpt2": byte_level_vocabulary(),
        "llama": sentencepiece_vocabulary(),
        "llama without prefix": sentencepiece_vocabulary(space_prefix=False),
    }
    made = {}
    for kind, vocabulary in vocabularies.items():
        with GgufFile(write_gguf(folder / f"{kind}.gguf", vocabulary)) as file:
            made[kind] = from_gguf(file)
    return made


def stream(tokenizer: Tokenizer, ids: list[int], *, mid_text: bool = False) -> list[str]:
    detokenizer = Detokenizer(tokenizer, mid_text=mid_text)
    return [*(detokenizer.push(i) for i in ids), detokenizer.flush()]


@pytest.mark.parametrize("kind", KINDS)
@given(ids=st.lists(st.integers(0, 720), max_size=40), mid_text=st.booleans())
def test_random_ids(
    kind: str, tokenizers: dict[str, Tokenizer], ids: list[int], mid_text: bool
) -> None:
    tokenizer = tokenizers[kind]
    whole = tokenizer.decode(ids, mid_text=mid_text)
    assert "".join(stream(tokenizer, ids, mid_text=mid_text)) == whole


@pytest.mark.parametrize("kind", KINDS)
@given(
    text=st.lists(
        st.one_of(
            st.text(max_size=4),
            st.sampled_from(
                [
                    "👩‍👩‍👧‍👦",
                    "🏳️‍🌈",
                    "👍🏽",
                    "你好",
                    "日本",
                    "مرحبا",
                    "नमस्ते",
                    "e\u0301",
                    " ",
                    "\n",
                    "{}",
                ]
            ),
        ),
        max_size=12,
    ).map("".join)
)
def test_text_appears_in_whole_characters(
    kind: str, tokenizers: dict[str, Tokenizer], text: str
) -> None:
    tokenizer = tokenizers[kind]
    parts = stream(tokenizer, tokenizer.encode(text, add_bos=True))
    assert "".join(parts) == text
    assert parts[-1] == ""
    shown = ""
    for part in parts:
        shown += part
        assert text.startswith(shown)


def byte_ids(tokenizer: Tokenizer, data: bytes) -> list[int]:
    spelled = {tokenizer.token_bytes(i): i for i in range(tokenizer.vocab_size)}
    return [spelled[bytes([byte])] for byte in data]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.binary(max_size=24))
def test_random_bytes(kind: str, tokenizers: dict[str, Tokenizer], data: bytes) -> None:
    tokenizer = tokenizers[kind]
    ids = byte_ids(tokenizer, data)
    parts = stream(tokenizer, ids, mid_text=True)
    assert "".join(parts) == tokenizer.decode(ids, mid_text=True) == data.decode("utf-8", "replace")


def test_bytes_that_cannot_become_a_character_show_at_once(
    tokenizers: dict[str, Tokenizer],
) -> None:
    tokenizer = tokenizers["gpt2"]
    assert stream(tokenizer, byte_ids(tokenizer, b"\xffa")) == ["\ufffd", "a", ""]
    assert stream(tokenizer, byte_ids(tokenizer, b"\xe2\x82\xac")) == ["", "", "€", ""]
    assert stream(tokenizer, byte_ids(tokenizer, b"\xe2\x82a")) == ["", "", "\ufffda", ""]
    assert stream(tokenizer, byte_ids(tokenizer, b"\xe2\x82")) == ["", "", "\ufffd"]


def test_special_tokens_do_not_tear_a_character(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["gpt2"]
    first, second = byte_ids(tokenizer, "é".encode())
    assert stream(tokenizer, [first, 0, second]) == ["", "", "é", ""]


def test_leading_space_of_sentencepiece(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["llama"]
    ids = tokenizer.encode(SAMPLE, add_bos=True)
    assert "".join(stream(tokenizer, ids)) == SAMPLE
    assert "".join(stream(tokenizer, ids, mid_text=True)) == f" {SAMPLE}"
