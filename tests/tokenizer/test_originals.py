"""Tokenizers from GGUF metadata against the makers' own, on a sample of many scripts."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import multilingual
import original_tokenizers as originals
import pytest
from tokenizer_files import Vocabulary, facts_of

from quantchat.checkpoints.gguf import GgufFile
from quantchat.tokenizer import Detokenizer, Tokenizer, from_gguf

FEW = 1000
WHOLE = frozenset({"llama-bpe", "qwen2", "falcon", "llama"})
"""What all lines are tried with; the others agree on all of them, too, but tests are to be quick."""


def sample(name: str) -> Sequence[str]:
    """Lines of all kinds."""
    return multilingual.lines()[-(multilingual.LINES if name in WHOLE else FEW) :]


def streamed(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    stream = Detokenizer(tokenizer)
    return "".join(map(stream.push, ids)) + stream.flush()


def test_the_sample_is_what_it_says() -> None:
    lines = multilingual.lines()
    assert len(lines) == multilingual.LINES and multilingual.lines() is lines
    characters = set("".join(lines))
    assert len(characters) > 20_000 and max(map(len, lines)) >= 400
    names = {unicodedata.name(char, "").partition(" ")[0] for char in characters}
    assert {"LATIN", "CYRILLIC", "ARABIC", "DEVANAGARI", "THAI", "HANGUL", "CJK"} <= names


@pytest.mark.parametrize("pre", originals.PUBLISHED)
def test_byte_level_families_agree(pre: str) -> None:
    vocabulary = originals.byte_level()
    theirs = originals.published(pre, vocabulary)
    theirs.encode_special_tokens = True
    ours = from_gguf(facts_of(vocabulary, pre=pre))
    lines = sample(pre)
    for line, expected in zip(lines, theirs.encode_batch(lines), strict=True):
        ids = ours.encode(line, add_bos=False)
        assert ids == expected.ids, line
        text = unicodedata.normalize("NFC", line) if pre in originals.NFC else line
        assert ours.decode(ids) == text
    for line in lines[::10]:
        ids = ours.encode(line, add_bos=False)
        assert streamed(ours, ids) == ours.decode(ids)


@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_sentencepiece_agrees(family: str) -> None:
    pytest.importorskip("sentencepiece")
    model, vocabulary = originals.trained_sentencepiece(prefix=family == "llama")
    ours = from_gguf(facts_of(vocabulary))
    for number, line in enumerate(sample(family)):
        ids = ours.encode(line, add_bos=False)
        assert ids == model.encode(line), line
        assert ours.decode(ids) == model.decode(ids) == line.replace("\u2581", " ")
        if number % 10 == 0:
            assert streamed(ours, ids) == ours.decode(ids)


@pytest.fixture
def starter(starter_path: Path) -> Iterator[tuple[Tokenizer, Any]]:
    """The starter's tokenizer, and the published one with the vocabulary as the gguf package reads it."""
    import gguf

    fields = gguf.GGUFReader(starter_path).fields
    table = {
        name: fields[f"tokenizer.ggml.{name}"].contents()
        for name in ("model", "tokens", "token_type", "merges", "pre")
    }
    vocabulary = Vocabulary(
        model=table["model"],
        tokens=table["tokens"],
        types=table["token_type"],
        merges=table["merges"],
        pre=table["pre"],
    )
    assert vocabulary.pre == "smollm"
    with GgufFile(starter_path) as file:
        yield from_gguf(file), originals.published("smollm", vocabulary)


@pytest.mark.starter
def test_the_starter_agrees(starter: tuple[Tokenizer, Any]) -> None:
    ours, theirs = starter
    theirs.encode_special_tokens = True
    lines = multilingual.lines()
    for line, expected in zip(lines, theirs.encode_batch(lines), strict=True):
        ids = ours.encode(line, add_bos=False)
        assert ids == expected.ids, line
        assert ours.decode(ids) == line
    for line in lines[::10]:
        ids = ours.encode(line, add_bos=False)
        assert streamed(ours, ids) == line
