"""A decoder over windows of tokens: hidden states of the scored rows.

Owns the walk from an empty cache, chunk by chunk, as a prompt goes through the engine; chunks and
logits are those of the model's `logprobs`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from quantchat.errors import Cancelled
from quantchat.evals.text import Window
from quantchat.model.decoder import Decoder
from quantchat.model.logprobs import SLICE_ELEMENTS as SLICE_ELEMENTS
from quantchat.model.logprobs import chunk_batch as chunk_batch
from quantchat.model.logprobs import log_softmax as log_softmax
from quantchat.model.logprobs import row_slices as row_slices
from quantchat.model.logprobs import scored_chunk
from quantchat.ops.kv_pool import KvPool


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
        part = scored_chunk(decoder, pool, window.ids, start=start, end=end, first_row=first_row)
        if part is not None:
            parts.append(part)
        on_tokens(end - start)
    return torch.cat(parts)
