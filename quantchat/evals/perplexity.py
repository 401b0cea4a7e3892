"""Perplexity from negative log-probabilities, with its error, and the ratio to a reference's.

A perplexity means something only beside the name of its method (`text.METHODS`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quantchat.evals.statistics import Estimate, exponential, mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexity:
    """Over the finite positions."""

    ppl: Estimate
    """exp of the mean negative log-probability."""
    nll: Estimate
    """Nats per token."""
    positions: int
    nonfinite_positions: int


def perplexity(nll: torch.Tensor) -> Perplexity:
    """Perplexity of negative log-probabilities float64 [S]."""
    kept = nll[nll.isfinite()]
    average = mean(kept)
    return Perplexity(
        ppl=exponential(average),
        nll=average,
        positions=kept.numel(),
        nonfinite_positions=nll.numel() - kept.numel(),
    )


def log_ratio(nll: torch.Tensor, base_nll: torch.Tensor) -> Estimate:
    """ln(ppl / base ppl) of paired positions; its error is far below that of either."""
    difference = nll - base_nll
    return mean(difference[difference.isfinite()])
