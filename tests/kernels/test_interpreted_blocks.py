"""Whole tiny models through the card's ops, interpreted: blocks that are not as Llama's too."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import factory
import pytest
import torch
from decoders import batch_of, float32_decoder, make_pool

from quantchat.model.decoder import Decoder
from quantchat.model.families import open_model
from quantchat.model.loader import load_decoder
from quantchat.model.weights import WeightRecipe
from quantchat.ops.batch import Batch
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.triton_ops import TritonOps
from quantchat.quant.registry import SCHEMES

CPU = torch.device("cpu")
FAMILIES = (
    "llama",
    "gemma2",
    "gemma3",
    "granite",
    "olmo2",
    "phi2",
    "falcon_7b",
    "falcon_40b",
    "falcon_rw",
    "mixtral",
    "qwen2moe",
)
IDS = [
    int(token) for token in torch.randint(5, 350, (30,), generator=torch.Generator().manual_seed(1))
]
PROMPT = 26
"""Beyond the windows of the tiny models."""
PAGES = [3, 0, 5, 1]
PAGE_TOKENS = 8
MOST = 0.02
"""Of the logits' spread: what 16 bits cost."""


def card_decoder(path: Path) -> Decoder:
    """The model under the kernels, as a card without tensor cores runs them."""
    source = open_model(path)
    try:
        ops = TritonOps(source.spec, device=CPU, dtype=torch.float16, dependent_launch=False)
        return load_decoder(
            source,
            ops,
            WeightRecipe(scheme=SCHEMES["fp16"], group_size=0, dtype=torch.float16, device=CPU),
            context_tokens=64,
            cache=None,
            on_progress=lambda phase, done, total: None,
            cancelled=lambda: False,
        ).decoder
    finally:
        source.close()


def step_of(pool: KvPool, end: int, *, paged: bool) -> Batch:
    """One token, as a captured step sees it, or as one that is launched op by op."""
    batch = batch_of(pool, [(IDS, end - 1, end, PAGES)])
    if not paged:
        return batch
    return dataclasses.replace(
        batch,
        slots=torch.full((1,), -7),
        spans=(),
        block_table=torch.tensor([PAGES], dtype=torch.int32),
        seq_lens=torch.tensor([end], dtype=torch.int32),
        page_tokens=PAGE_TOKENS,
    )


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_the_card_s_ops_give_the_model_s_logits(family: str, tmp_path: Path) -> None:
    path = factory.write_hf(tmp_path, family)
    exact, made = float32_decoder(path, context_tokens=64), card_decoder(path)
    theirs = make_pool(exact, pages=6, page_tokens=PAGE_TOKENS)
    pool = make_pool(made, pages=6, page_tokens=PAGE_TOKENS)
    paged = made.spec.experts is None
    wanted = [exact.logits(exact.forward(batch_of(theirs, [(IDS, 0, PROMPT, PAGES)]), theirs))]
    given = [made.logits(made.forward(batch_of(pool, [(IDS, 0, PROMPT, PAGES)]), pool))]
    for end in range(PROMPT + 1, len(IDS) + 1):
        step = batch_of(theirs, [(IDS, end - 1, end, PAGES)])
        wanted.append(exact.logits(exact.forward(step, theirs)))
        given.append(made.step_logits(step_of(pool, end, paged=paged), pool).float())
    truth, logits = torch.cat(wanted), torch.cat(given)
    assert torch.isfinite(logits).all()
    off = (logits - truth).square().mean(dim=1).sqrt() / truth.std()
    assert float(off.max()) < MOST, [round(float(each), 4) for each in off]
