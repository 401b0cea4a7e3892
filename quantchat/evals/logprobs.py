"""A decoder over windows of tokens: hidden states of the scored rows, logits slice by slice.

Owns the feeding of chunks through the paged cache, as a prompt goes through the engine. A whole
window's logits are never held: R rows of them stay below SLICE_ELEMENTS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from quantchat.errors import Cancelled
from quantchat.evals.text import Window
from quantchat.model.decoder import Decoder
from quantchat.ops.batch import Batch, Span
from quantchat.ops.kv_pool import KvPool

SLICE_ELEMENTS = 1 << 22
"""Elements of logits held at a time: 16 MiB in float32."""


@torch.inference_mode()
def hidden_states(
    decoder: Decoder,
    pool: KvPool,
    window: Window,
    *,
    chunk_tokens: int,
    cancelled: Callable[[], bool],
    on_tokens: Callable[[int], None],
) -> torch.Tensor:
    """Normed hidden states [S, C] of the rows that predict the scored tokens, compute dtype.

    Runs the window from an empty cache in chunks; row i predicts token first_target + i.
    """
    first_row = window.first_target - 1
    last_row = len(window.ids) - 1
    parts: list[torch.Tensor] = []
    for start in range(0, last_row, chunk_tokens):
        if cancelled():
            raise Cancelled("the evaluation was stopped")
        end = min(start + chunk_tokens, last_row)
        hidden = decoder.forward(chunk_batch(window.ids, start, end, pool), pool)
        if end > first_row:
            parts.append(hidden[max(0, first_row - start) :].clone())
        on_tokens(end - start)
    return torch.cat(parts)


def chunk_batch(ids: tuple[int, ...], start: int, end: int, pool: KvPool) -> Batch:
    """Tokens start .. end of one sequence that owns the pool's pages from 1 on."""
    device = pool.layers[0].k.device
    positions = torch.arange(start, end, device=device)
    pages = tuple(range(1, 1 + -(-end // pool.page_tokens)))
    return Batch(
        torch.tensor(ids[start:end], device=device),
        positions.to(torch.int32),
        positions + pool.page_tokens,
        end - start == 1,
        (Span(0, end - start, end, pages),),
    )


def row_slices(rows: int, vocab: int) -> Iterator[slice]:
    """Cuts of `rows` rows whose logits stay below SLICE_ELEMENTS."""
    step = max(1, SLICE_ELEMENTS // vocab)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """Log-probabilities float32 [R, V] of logits [R, V]."""
    return torch.log_softmax(logits.float(), dim=-1)
