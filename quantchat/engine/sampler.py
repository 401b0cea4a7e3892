"""The next token from logits: greedy, or temperature with top-k, top-p, min-p and a seed.

All three truncations keep a prefix of the tokens sorted by probability. The draw is the inverse
of the kept distribution at a uniform number that depends on (seed, index) alone, so the same seed
gives the same text whatever else runs. `pick` may read values back and suits the CPU;
`pick_rows` never does and can be captured in a CUDA graph. Both keep the same tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quantchat.requests import Sampling

MASK_64 = (1 << 64) - 1
FIRST_PREFIX = 64
"""Likeliest tokens looked at before more are sorted."""


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) from a counter: splitmix64 (Steele et al., OOPSLA 2014), top 24 bits."""
    x = (seed * 0x9E3779B97F4A7C15 + (index + 1) * 0xBF58476D1CE4E5B9) & MASK_64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK_64
    return ((x ^ (x >> 31)) >> 40) / (1 << 24)


def uniform_rows(seeds: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """`uniform` for int64 [B] seeds and indices -> float32 [B], on their device."""
    x = seeds * _signed(0x9E3779B97F4A7C15) + (indices + 1) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return _shift(x ^ _shift(x, 31), 40).float() / (1 << 24)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def penalize(logits: torch.Tensor, seen: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Repetition penalty (CTRL, 1909.05858). logits [B, V], seen bool [B, V], penalty [B, 1]."""
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, lowered, logits)


def pick(logits: torch.Tensor, sampling: Sampling, u: float) -> int:
    """One token from float32 logits [V] at the uniform number u."""
    if sampling.temperature <= 0:
        return int(logits.argmax())
    scaled = logits / sampling.temperature
    vocab = scaled.shape[0]
    log_total = torch.logsumexp(scaled, dim=0)
    limit = min(sampling.top_k, vocab) if sampling.top_k > 0 else vocab
    size = min(limit, FIRST_PREFIX)
    while True:
        values, ids = torch.topk(scaled, size)
        p = torch.exp(values - log_total)
        cumulated = torch.cumsum(p, dim=0)
        kept = (cumulated - p) < sampling.top_p
        kept &= p >= sampling.min_p * p[0]
        kept[0] = True
        if size == limit or not bool(kept[-1]):
            break
        size = min(limit, size * 16)
    count = int(kept.sum())
    threshold = u * float(cumulated[count - 1])
    index = int((cumulated[:count] <= threshold).sum())
    return int(ids[min(index, count - 1)])


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """Sampling parameters of B rows on the device, static buffers of a captured graph."""

    temperature: torch.Tensor
    """float32 [B]; 0 is greedy."""
    top_k: torch.Tensor
    """int64 [B]; the vocabulary's size keeps all."""
    top_p: torch.Tensor
    min_p: torch.Tensor
    penalty: torch.Tensor
    seeds: torch.Tensor
    """int64 [B]."""

    @staticmethod
    def empty(rows: int, vocab: int, device: torch.device) -> SamplingRows:
        """Greedy rows."""

        def full(value: float) -> torch.Tensor:
            return torch.full((rows,), value, dtype=torch.float32, device=device)

        return SamplingRows(
            temperature=full(0),
            top_k=torch.full((rows,), vocab, dtype=torch.int64, device=device),
            top_p=full(1),
            min_p=full(0),
            penalty=full(1),
            seeds=torch.zeros(rows, dtype=torch.int64, device=device),
        )

    def set_row(self, row: int, sampling: Sampling, seed: int, vocab: int) -> None:
        """Write one row's parameters."""
        self.temperature[row] = max(sampling.temperature, 0.0)
        self.top_k[row] = sampling.top_k if 0 < sampling.top_k < vocab else vocab
        self.top_p[row] = sampling.top_p
        self.min_p[row] = sampling.min_p
        self.penalty[row] = sampling.repetition_penalty
        self.seeds[row] = _signed(seed & MASK_64)


def pick_rows(
    logits: torch.Tensor, rows: SamplingRows, indices: torch.Tensor, *, greedy: bool
) -> torch.Tensor:
    """One token per row: float32 [B, V] and int64 indices [B] -> int64 [B], nothing read back.

    `greedy` says that every row is, so that nothing is sorted.
    """
    best = logits.argmax(dim=-1)
    if greedy:
        return best
    temperature = torch.where(rows.temperature > 0, rows.temperature, 1.0)
    p = torch.softmax(logits / temperature[:, None], dim=-1)
    p, ids = torch.sort(p, dim=-1, descending=True, stable=True)
    before = torch.cumsum(p, dim=-1) - p
    rank = torch.arange(p.shape[-1], device=p.device)
    kept = (before < rows.top_p[:, None]) & (rank < rows.top_k[:, None])
    kept &= p >= rows.min_p[:, None] * p[:, :1]
    kept |= rank == 0
    cumulated = torch.cumsum(torch.where(kept, p, 0.0), dim=-1)
    threshold = uniform_rows(rows.seeds, indices)[:, None] * cumulated[:, -1:]
    index = (kept & (cumulated <= threshold)).sum(dim=-1)
    index = torch.minimum(index, kept.sum(dim=-1) - 1)
    drawn = ids.gather(1, index[:, None])[:, 0]
    return torch.where(rows.temperature > 0, drawn, best)
