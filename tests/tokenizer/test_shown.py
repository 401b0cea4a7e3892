"""Single tokens as people read them, and whether two tokenizers know the same ones."""

from __future__ import annotations

from pathlib import Path

import factory

from quantchat.tokenizer import from_folder


def test_a_token_by_itself_is_readable(tmp_path: Path) -> None:
    tokenizer = from_folder(factory.write_hf(tmp_path / "tiny", "llama"))
    first, middle, last = tokenizer.encode("東", add_bos=False)
    assert [tokenizer.shown(i) for i in (first, middle, last)] == ["<0xE6>", "<0x9D>", "<0xB1>"]
    (end,) = tokenizer.eos_ids - {tokenizer.bos_id}
    assert tokenizer.shown(end) == "<|im_end|>" and tokenizer.token_bytes(end) == b""
    assert "".join(tokenizer.shown(i) for i in tokenizer.encode("a b", add_bos=False)) == "a b"
    assert tokenizer.shown(tokenizer.vocab_size) == f"<{tokenizer.vocab_size}>"
    assert tokenizer.shown(-1) == "<-1>"
    assert all(tokenizer.shown(i) for i in range(tokenizer.vocab_size))


def test_vocabularies_are_told_apart(tmp_path: Path) -> None:
    made = [
        from_folder(factory.write_hf(tmp_path / name, family))
        for name, family in (("a", "llama"), ("b", "llama"), ("c", "qwen2"))
    ]
    digests = [tokenizer.vocabulary_digest for tokenizer in made]
    assert digests[0] == digests[1] != digests[2]
