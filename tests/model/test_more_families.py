"""Families whose blocks or files are not as Llama's, against transformers in float32."""

from __future__ import annotations

from pathlib import Path

import factory
import more_gguf
import pytest
import torch
from decoders import float32_decoder, logits_in_chunks, make_pool
from transformers_logits import check, theirs

TOKENS = 72
"""Past the sliding windows (24, 40) and past the length that rope scaling begins at (64)."""
PAGES = (7, 3, 6, 2, 5)
CUTS = ((TOKENS,), (33, 34, 65, TOKENS), (30, *range(31, TOKENS + 1)))
"""At once, in chunks, step by step."""


def token_ids(vocab: int) -> list[int]:
    random = torch.Generator().manual_seed(6)
    return torch.randint(0, vocab, (TOKENS,), generator=random).tolist()


@pytest.mark.parametrize("family", factory.MORE_SETTINGS)
def test_folders_agree_at_any_cut(family: str, tmp_path: Path) -> None:
    path = factory.write_hf(tmp_path / "model", family, tokenizer=False)
    decoder = float32_decoder(path, context_tokens=TOKENS)
    ids = token_ids(decoder.spec.vocab)
    wanted = theirs(family, ids)
    for ends in CUTS:
        pool = make_pool(decoder, pages=8, page_tokens=16)
        check(logits_in_chunks(decoder, pool, ids, PAGES, ends), wanted)


def test_short_factors_serve_contexts_of_the_original_length(tmp_path: Path) -> None:
    path = factory.write_hf(tmp_path / "model", "phi4_mini", tokenizer=False)
    ids = token_ids(352)[:64]
    decoder = float32_decoder(path, context_tokens=64)
    pool = make_pool(decoder, pages=8, page_tokens=16)
    check(logits_in_chunks(decoder, pool, ids, PAGES, (30, 64)), theirs("phi4_mini", ids))


@pytest.mark.parametrize("family", more_gguf.CASES)
def test_gguf_files_agree_at_any_cut(family: str, tmp_path: Path) -> None:
    decoder = float32_decoder(more_gguf.write(tmp_path / "m.gguf", family), context_tokens=TOKENS)
    ids = token_ids(decoder.spec.vocab)
    wanted = theirs(family, ids, **more_gguf.CASES[family][1])
    pool = make_pool(decoder, pages=8, page_tokens=16)
    check(logits_in_chunks(decoder, pool, ids, PAGES, CUTS[1]), wanted)


@pytest.mark.parametrize("family", ["phi3", "falcon_40b", "mixtral", "qwen2moe"])
def test_blocks_of_parts_of_tensors_run_as_stored(family: str, tmp_path: Path) -> None:
    path = more_gguf.write(tmp_path / "m.gguf", family, tensor_type="Q8_0")
    dense = float32_decoder(path, context_tokens=TOKENS)
    stored = float32_decoder(path, context_tokens=TOKENS, scheme="stored")
    ids = token_ids(dense.spec.vocab)
    made = [
        logits_in_chunks(
            decoder, make_pool(decoder, pages=8, page_tokens=16), ids, PAGES, (TOKENS,)
        )
        for decoder in (dense, stored)
    ]
    assert (made[0] - made[1]).abs().mean() < 0.03 * made[0].std()
    wanted = theirs(family, ids, **more_gguf.CASES[family][1])
    assert (made[0] - wanted).abs().mean() < 0.1 * wanted.std()
