"""The decoder against transformers on the same weights in float32, family by family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import factory
import pytest
import torch
from decoders import batch_of, float32_decoder, logits_in_chunks, make_pool
from transformers_logits import check, theirs

TOKENS = 150
"""Past the sliding windows (8) and past the length that rope scaling begins at (64)."""
PAGE = 16
SCATTERED = (7, 3, 11, 2, 9, 5, 12, 1, 4, 10)
IN_A_ROW = tuple(range(1, 11))
CUTS = {
    "at once": (TOKENS,),
    "in chunks": (33, 64, 65, 97, 149, TOKENS),
    "step by step": tuple(range(1, TOKENS + 1)),
}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{family: (family, {}) for family in factory.FAMILIES},
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, one KV head": ("llama", {"num_key_value_heads": 1}),
    "llama, as many KV heads": ("llama", {"num_key_value_heads": 4}),
    "llama, linear scaling": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}},
    ),
    "llama, yarn": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "llama, dynamic scaling": (
        "llama",
        {
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
            "max_position_embeddings": 64,
        },
    ),
    "qwen2, windows from layer 1": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    "qwen3 with biases": ("qwen3", {"attention_bias": True}),
}


def token_ids(vocab: int) -> list[int]:
    random = torch.Generator().manual_seed(5)
    return torch.randint(0, vocab, (TOKENS,), generator=random).tolist()


@pytest.mark.parametrize("variant", VARIANTS)
def test_folders_agree_at_any_cut(variant: str, tmp_path: Path) -> None:
    family, overrides = VARIANTS[variant]
    path = factory.write_hf(tmp_path / "model", family, tokenizer=False, **overrides)
    decoder = float32_decoder(path, context_tokens=TOKENS)
    ids = token_ids(decoder.spec.vocab)
    wanted = theirs(family, ids, **overrides)
    for ends in CUTS.values():
        for pages in (SCATTERED, IN_A_ROW):
            pool = make_pool(decoder, pages=13, page_tokens=PAGE)
            check(logits_in_chunks(decoder, pool, ids, pages, ends), wanted)


@pytest.mark.parametrize("family", factory.GGUF_FAMILIES)
def test_gguf_files_agree_at_any_cut(family: str, tmp_path: Path) -> None:
    path = factory.write_gguf(tmp_path / "model.gguf", family)
    decoder = float32_decoder(path, context_tokens=TOKENS)
    ids = token_ids(decoder.spec.vocab)
    wanted = theirs(family, ids)
    for ends in CUTS.values():
        pool = make_pool(decoder, pages=13, page_tokens=PAGE)
        check(logits_in_chunks(decoder, pool, ids, SCATTERED, ends), wanted)


@pytest.mark.parametrize("family", ["llama3", "mistral_window", "qwen3"])
@torch.inference_mode()
def test_sequences_that_step_together_do_not_touch(family: str, tmp_path: Path) -> None:
    path = factory.write_hf(tmp_path / "model", family, tokenizer=False)
    decoder = float32_decoder(path, context_tokens=TOKENS)
    first = token_ids(decoder.spec.vocab)
    second = list(reversed(first))[:90]
    pages = {0: (7, 3, 11, 2, 9, 5, 12, 1, 4, 10), 1: (8, 6, 13, 14, 16, 15)}
    pool = make_pool(decoder, pages=17, page_tokens=PAGE)
    logits_in_chunks(decoder, pool, first, pages[0], (70,))
    logits_in_chunks(decoder, pool, second, pages[1], (13,))
    wanted = theirs(family, first), theirs(family, second)
    for step in range(40):
        a, b = 70 + step, 13 + step
        batch = batch_of(pool, [(first, a, a + 1, pages[0]), (second, b, b + 1, pages[1])])
        rows = decoder.logits(decoder.forward(batch, pool))
        check(rows[:1], wanted[0][a : a + 1])
        check(rows[1:], wanted[1][b : b + 1])
