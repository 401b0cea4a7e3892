"""A tokenizer written as a folder's files is the same one when it is read again."""

from __future__ import annotations

from pathlib import Path

import factory
import pytest
from tokenizer_files import TEXTS, byte_level_vocabulary, facts_of, sentencepiece_vocabulary

from quantchat.checkpoints.gguf import GgufFile
from quantchat.requests import Message
from quantchat.tokenizer import Tokenizer, from_folder, from_gguf
from quantchat.tokenizer.writing import copy_tokenizer, write_tokenizer


def same(ours: Tokenizer, again: Tokenizer) -> None:
    """Every fact that the engine sees, and the ids of awkward texts."""
    for name in ("vocab_size", "bos_id", "eos_ids", "special_ids", "adds_bos", "strips_space"):
        assert getattr(again, name) == getattr(ours, name), name
    for text in (*TEXTS, "a<tool> b", "x</s>y<|im_end|>z", " leading", ""):
        for special in (False, True):
            ids = ours.encode(text, add_bos=True, parse_special=special)
            assert again.encode(text, add_bos=True, parse_special=special) == ids, text
            assert again.decode(ids) == ours.decode(ids)
    messages = (Message("system", "Be brief."), Message("user", "hi <|im_end|> there"))
    assert again.encode_chat(messages) == ours.encode_chat(messages)
    assert (again.template.text, again.template.source) == (
        ours.template.text,
        ours.template.source,
    )


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2", "tekken"])
@pytest.mark.parametrize("adds_bos", [True, False])
def test_byte_level(tmp_path: Path, pre: str, adds_bos: bool) -> None:
    ours = from_gguf(facts_of(byte_level_vocabulary(), pre=pre, add_bos_token=adds_bos))
    write_tokenizer(ours, tmp_path)
    same(ours, from_folder(tmp_path))


@pytest.mark.parametrize("space_prefix", [True, False])
def test_sentencepiece(tmp_path: Path, space_prefix: bool) -> None:
    ours = from_gguf(facts_of(sentencepiece_vocabulary(space_prefix=space_prefix)))
    write_tokenizer(ours, tmp_path)
    same(ours, from_folder(tmp_path))


def test_a_model_file_with_a_template_of_its_own(tmp_path: Path) -> None:
    path = factory.write_gguf(tmp_path / "tiny.gguf", "llama")
    with GgufFile(path) as file:
        ours = from_gguf(file)
    write_tokenizer(ours, tmp_path)
    again = from_folder(tmp_path)
    assert again.template.source == "model"
    same(ours, again)


def test_a_folders_files_are_copied(tmp_path: Path) -> None:
    source = factory.write_hf(tmp_path / "a", "qwen2")
    copy = tmp_path / "b"
    copy.mkdir()
    copy_tokenizer(source, copy)
    names = {path.name for path in copy.iterdir()}
    assert names == {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    same(from_folder(source), from_folder(copy))
