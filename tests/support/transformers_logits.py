"""Logits of transformers on the weights that the factory writes, and how close ours must come."""

from __future__ import annotations

from typing import Any

import factory
import torch

from quantchat.evals.divergence import compare, summarize
from quantchat.evals.logprobs import log_softmax


@torch.inference_mode()
def theirs(family: str, ids: list[int], **overrides: Any) -> torch.Tensor:
    """Logits float32 [T, V] of one pass over all ids."""
    model = factory.build_model(family, **overrides)
    logits: torch.Tensor = model(torch.tensor([ids]), use_cache=False).logits[0]
    assert logits.std() > 0.5
    return logits


def check(ours: torch.Tensor, wanted: torch.Tensor) -> None:
    """Equal but for the order of float32 sums."""
    targets = torch.zeros(ours.shape[0], dtype=torch.int64)
    divergence = summarize(compare(log_softmax(wanted), log_softmax(ours), targets))
    assert divergence.nonfinite_positions == 0
    assert divergence.kl_max < 1e-6
    assert divergence.same_top.value == 1
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)
