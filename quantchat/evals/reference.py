"""The model that others are measured against: its hidden states, kept, and its head.

Log-probabilities of T tokens would take T * vocab floats; the states in front of the head take
T * hidden and give the same numbers again, exactly, for one matmul.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from quantchat.evals.logprobs import hidden_states, log_softmax
from quantchat.evals.text import Passages
from quantchat.model.decoder import Decoder
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.linear import LinearOp


@dataclass(frozen=True, slots=True)
class Reference:
    """Hidden states [S, C] of each window's scored rows in main memory, and the head."""

    head: LinearOp
    device: torch.device
    hidden: tuple[torch.Tensor, ...]

    @torch.inference_mode()
    def log_probs(self, window: int, rows: slice) -> torch.Tensor:
        """Log-probabilities float32 [R, V] of some scored rows of a window."""
        return log_softmax(self.head(self.hidden[window][rows].to(self.device)))


def run_reference(
    decoder: Decoder,
    pool: KvPool,
    passages: Passages,
    *,
    chunk_tokens: int,
    cancelled: Callable[[], bool],
    on_tokens: Callable[[int], None],
) -> Reference:
    """Run the reference once over all windows. Raises Cancelled."""
    hidden = tuple(
        hidden_states(
            decoder,
            pool,
            window,
            chunk_tokens=chunk_tokens,
            cancelled=cancelled,
            on_tokens=on_tokens,
        ).cpu()
        for window in passages.windows
    )
    return Reference(decoder.head, decoder.ops.device, hidden)
