"""Tiny models under a card's ops, or interpreted ones, held to the same model in float32."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import factory
import torch
from decoders import batch_of, float32_decoder, make_pool
from followed_experts import followed

from quantchat.hardware.linears import group_size_of
from quantchat.kv_formats import KvFormat
from quantchat.model.decoder import Decoder
from quantchat.model.families import open_model
from quantchat.model.loader import load_decoder
from quantchat.model.weights import WeightRecipe
from quantchat.ops.batch import Batch
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.triton_ops import TritonOps
from quantchat.quant.registry import SCHEMES

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
WIDTHS = {"qwen2moe": {"shared_expert_intermediate_size": 64}}
"""Where groups of int4 do not divide those of the factory."""
IDS = torch.randint(5, 350, (30,), generator=torch.Generator().manual_seed(1)).tolist()
PROMPT = 28
"""Beyond the windows of the tiny models."""
PAGES = [3, 0, 5, 1]
PAGE_TOKENS = 8
CPU = torch.device("cpu")


def card_decoder(path: Path, scheme: str, device: torch.device, dtype: torch.dtype) -> Decoder:
    """The model under the kernels; on the CPU as a card without tensor cores runs them."""
    source = open_model(path)
    try:
        chosen = SCHEMES[scheme]
        recipe = WeightRecipe(
            scheme=chosen,
            group_size=group_size_of(source.spec, chosen),
            dtype=dtype,
            device=device,
        )
        return load_decoder(
            source,
            TritonOps(source.spec, device=device, dtype=dtype, dependent_launch=False),
            recipe,
            context_tokens=64,
            cache=None,
            on_progress=lambda phase, done, total: None,
            cancelled=lambda: False,
        ).decoder
    finally:
        source.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Furthest:
    """Largest difference of a position from float32, as a share of the spread there."""

    logits: float
    """Each token through the experts that it takes in float32."""
    scores: float
    """Of a router, in any layer; 0 without experts."""


def furthest(
    folder: Path,
    family: str,
    *,
    scheme: str = "fp16",
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float16,
    kv: KvFormat = "16bit",
) -> Furthest:
    """How far a prompt and two steps of a tiny model are from float32.

    Where two experts nearly tie, rounding decides between them and what follows is another model's:
    so the choices of float32 are taken, and the scores that they were made by are compared.
    """
    path = factory.write_hf(folder, family, **WIDTHS.get(family, {}))
    exact, noted = followed(float32_decoder(path, context_tokens=64), None)
    made, scored = followed(card_decoder(path, scheme, device, dtype), noted)
    theirs = make_pool(exact, pages=6, page_tokens=PAGE_TOKENS)
    pool = make_pool(made, pages=6, page_tokens=PAGE_TOKENS, precision=kv)
    paged = made.capturable
    wanted = [exact.logits(exact.forward(batch_of(theirs, [(IDS, 0, PROMPT, PAGES)]), theirs))]
    prompt = _on(batch_of(pool, [(IDS, 0, PROMPT, PAGES)]), device)
    given = [made.logits(made.forward(prompt, pool))]
    for end in range(PROMPT + 1, len(IDS) + 1):
        step = batch_of(theirs, [(IDS, end - 1, end, PAGES)])
        wanted.append(exact.logits(exact.forward(step, theirs)))
        step = _on(_step(pool, end, paged=paged), device)
        given.append(made.step_logits(step, pool).float())
    assert len(scored) == len(noted)
    scores = [_off(one, two) for one, two in zip(scored, noted, strict=True)]
    return Furthest(
        logits=_off(torch.cat(given), torch.cat(wanted)), scores=max(scores, default=0.0)
    )


def _off(given: torch.Tensor, truth: torch.Tensor) -> float:
    off = (given.cpu() - truth).square().mean(dim=1).sqrt() / truth.std()
    return float(torch.nan_to_num(off, nan=torch.inf).max())


def _step(pool: KvPool, end: int, *, paged: bool) -> Batch:
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


def _on(batch: Batch, device: torch.device) -> Batch:
    table, lengths = batch.block_table, batch.seq_lens
    return dataclasses.replace(
        batch,
        ids=batch.ids.to(device),
        positions=batch.positions.to(device),
        slots=batch.slots.to(device),
        block_table=None if table is None else table.to(device),
        seq_lens=None if lengths is None else lengths.to(device),
    )
