"""Decoders run by hand: weights in float32, pages scattered on purpose, any cut into chunks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from quantchat.kv_formats import KvFormat
from quantchat.model.decoder import Decoder
from quantchat.model.families import open_model
from quantchat.model.loader import load_decoder
from quantchat.model.weights import WeightRecipe
from quantchat.ops.batch import Batch, Span
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.registry import SCHEMES

CPU = torch.device("cpu")


def float32_decoder(path: Path, *, context_tokens: int, scheme: str = "fp16") -> Decoder:
    """The file's weights, dense in float32 unless the scheme says otherwise, under torch's ops."""
    source = open_model(path)
    try:
        return load_decoder(
            source,
            TorchOps(source.spec, device=CPU, dtype=torch.float32),
            WeightRecipe(scheme=SCHEMES[scheme], group_size=0, dtype=torch.float32, device=CPU),
            context_tokens=context_tokens,
            cache=None,
            on_progress=lambda phase, done, total: None,
            cancelled=lambda: False,
        ).decoder
    finally:
        source.close()


def make_pool(
    decoder: Decoder, *, pages: int, page_tokens: int, precision: KvFormat = "16bit"
) -> KvPool:
    """A cache whose untouched memory is NaN, so that reading past a sequence shows."""
    pool = KvPool(
        decoder.spec,
        pages=pages,
        page_tokens=page_tokens,
        precision=precision,
        dtype=decoder.ops.dtype,
        device=decoder.ops.device,
    )
    for layer in pool.layers:
        for tensor in (layer.k, layer.v, layer.k_params, layer.v_params):
            if tensor is not None and tensor.is_floating_point():
                tensor.fill_(float("nan"))
    return pool


def batch_of(pool: KvPool, parts: Sequence[tuple[Sequence[int], int, int, Sequence[int]]]) -> Batch:
    """Rows of (tokens, start, end, pages) sequences, as the engine lays them out."""
    ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    spans: list[Span] = []
    for tokens, start, end, pages in parts:
        used = tuple(pages[: -(-end // pool.page_tokens)])
        spans.append(Span(len(ids), end - start, end, used))
        ids += tokens[start:end]
        positions += range(start, end)
        slots += [
            used[p // pool.page_tokens] * pool.page_tokens + p % pool.page_tokens
            for p in range(start, end)
        ]
    return Batch(
        torch.tensor(ids),
        torch.tensor(positions, dtype=torch.int32),
        torch.tensor(slots),
        all(end - start == 1 for _, start, end, _ in parts),
        tuple(spans),
    )


@torch.inference_mode()
def logits_in_chunks(
    decoder: Decoder, pool: KvPool, ids: Sequence[int], pages: Sequence[int], ends: Sequence[int]
) -> torch.Tensor:
    """Logits float32 [T, V] of one sequence, computed up to each of `ends` in turn."""
    parts: list[torch.Tensor] = []
    start = 0
    for end in ends:
        hidden = decoder.forward(batch_of(pool, [(ids, start, end, pages)]), pool)
        parts.append(decoder.logits(hidden))
        start = end
    return torch.cat(parts)
