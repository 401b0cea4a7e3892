"""Log-probabilities of tokens that are there already: chunks through the cache, logits in slices.

Owns the batch of one sequence's chunk and the cuts of the head's rows; `quantchat eval` and the
scores beside a running answer are made of the same pieces. What is compared is `divergence`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from quantchat.model.decoder import Decoder
from quantchat.ops.batch import Batch, Span
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.linear_cpu import without_copies

SLICE_ELEMENTS = 1 << 22
"""Elements of logits held at a time: 16 MiB in float32."""


def chunk_batch(
    ids: Sequence[int],
    start: int,
    end: int,
    pool: KvPool,
    pages: Sequence[int] | None = None,
) -> Batch:
    """Tokens start .. end of one sequence on its pages; None: it owns the pool's from 1 on."""
    device, size = pool.layers[0].k.device, pool.page_tokens
    count = -(-end // size)
    held = tuple(range(1, 1 + count)) if pages is None else tuple(pages[:count])
    slots = [held[at // size] * size + at % size for at in range(start, end)]
    table = torch.tensor([ids[start:end], range(start, end), slots]).to(device)
    return Batch(
        table[0],
        table[1].to(torch.int32),
        table[2],
        end - start == 1,
        (Span(0, end - start, end, held),),
    )


def scored_chunk(
    decoder: Decoder,
    pool: KvPool,
    ids: Sequence[int],
    *,
    start: int,
    end: int,
    first_row: int,
    pages: Sequence[int] | None = None,
) -> torch.Tensor | None:
    """Run tokens start .. end; normed hidden states [R, C] of the rows from `first_row` on.

    None where the chunk ends before. Everything before `start` must be in the cache.
    """
    hidden = decoder.forward(chunk_batch(ids, start, end, pool, pages), pool)
    return hidden[max(0, first_row - start) :].clone() if end > first_row else None


def as_stored(decoder: Decoder) -> Decoder:
    """The decoder without the CPU's dense copies: prompts run the very ops of single tokens."""
    if not decoder.copy_bytes:
        return decoder
    layers = tuple(
        replace(
            layer,
            qkv=without_copies(layer.qkv),
            o=without_copies(layer.o),
            gate_up=without_copies(layer.gate_up),
            down=without_copies(layer.down),
        )
        for layer in decoder.layers
    )
    blocks = tuple(
        replace(
            block,
            qkv=without_copies(block.qkv),
            o=without_copies(block.o),
            mlp=block.mlp.with_linears(without_copies),
        )
        for block in decoder.blocks
    )
    return replace(decoder, layers=layers, blocks=blocks, copy_bytes=0)


def row_slices(rows: int, vocab: int) -> Iterator[slice]:
    """Cuts of `rows` rows whose logits stay below SLICE_ELEMENTS."""
    step = max(1, SLICE_ELEMENTS // vocab)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """Log-probabilities float32 [R, V] of logits [R, V]."""
    return torch.log_softmax(logits.float(), dim=-1)
