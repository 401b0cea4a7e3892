"""The next token from logits: greedy, or temperature with top-k, top-p, min-p and a seed.

The rule is kernels/sample/reference.py's: all three truncations keep a prefix of the tokens sorted
by logit, and the draw takes the kept ones by id, at a uniform number that depends on (seed, index)
alone. Sums are integers, so that equal logits and seeds give the same token on every path. `pick`
may read values back and suits the CPU; `pick_rows` never does; a captured step runs the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quantchat.errors import EngineError
from quantchat.kernels.sample.reference import (
    DRAW_BITS,
    draw,
    float_weights,
    inverse_temperature,
    min_p_weight,
    top_p_limit,
    weights,
)
from quantchat.requests import Sampling

MASK_64 = (1 << 64) - 1
FIRST_PREFIX = 64
"""Likeliest tokens looked at before more are sorted."""
CHUNK = 1 << 14
"""Tokens weighed at a time, so that what lies between stays in the processor's cache."""


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) from a counter: splitmix64 (Steele et al., OOPSLA 2014), top 24 bits."""
    x = (seed * 0x9E3779B97F4A7C15 + (index + 1) * 0xBF58476D1CE4E5B9) & MASK_64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK_64
    return ((x ^ (x >> 31)) >> 40) / (1 << 24)


def uniform_bits(seeds: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """2^24 times `uniform` for int64 [B] seeds and indices -> int64 [B], on their device."""
    x = seeds * _signed(0x9E3779B97F4A7C15) + (indices + 1) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return _shift(x ^ _shift(x, 31), 40)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def penalize(logits: torch.Tensor, seen: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Repetition penalty (CTRL, 1909.05858). logits [B, V], seen bool [B, V], penalty [B, 1]."""
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, lowered, logits)


def not_finite() -> EngineError:
    """The error of a model whose numbers are none."""
    return EngineError(
        "the model gives numbers that are not finite",
        hint="load it with another scheme or another KV precision",
    )


def pick(logits: torch.Tensor, sampling: Sampling, u: float) -> int:
    """One token from float32 logits [V] at the uniform number u; EngineError where there is none."""
    best = logits.argmax() if sampling.temperature <= 0 else None
    top = logits.max() if best is None else logits[best]
    if not bool(top.isfinite()):
        raise not_finite()
    if best is not None:
        return int(best)
    inverse = inverse_temperature(logits.new_tensor(sampling.temperature))
    least = int(min_p_weight(logits.new_tensor(sampling.min_p)))
    vocab = logits.shape[0]
    limit = min(sampling.top_k, vocab) if sampling.top_k > 0 else vocab
    ids = None
    if limit < vocab or sampling.top_p < 1:
        ids = _kept(logits, limit, sampling.top_p, top, inverse)
        logits = logits[ids]
    parts = torch.split(logits, CHUNK)
    totals = [_total(_at_least(float_weights(part, top, inverse), least)) for part in parts]
    rest = (sum(totals) * int(u * (1 << DRAW_BITS))) >> DRAW_BITS
    chosen = 0
    while rest >= totals[chosen]:
        rest -= totals[chosen]
        chosen += 1
    w = _at_least(weights(parts[chosen], top, inverse), least)
    index = int((torch.cumsum(w, dim=0) <= rest).sum()) + chosen * CHUNK
    return index if ids is None else int(ids[index])


def _at_least(w: torch.Tensor, least: int) -> torch.Tensor:
    return w if least <= 1 else w.mul_(w >= least)


def _kept(
    logits: torch.Tensor, limit: int, top_p: float, top: torch.Tensor, inverse: torch.Tensor
) -> torch.Tensor:
    """Ascending ids of the first `limit` tokens that top-p keeps too."""
    vocab = logits.shape[0]
    weight_limit = None
    if top_p < 1:
        total = sum(
            _total(float_weights(part, top, inverse)) for part in torch.split(logits, CHUNK)
        )
        weight_limit = top_p_limit(torch.tensor(total), torch.tensor(top_p)).item()
    size = min(limit, FIRST_PREFIX)
    while True:
        # One more than looked at shows whether equals of the last one are left out.
        values, ids = torch.topk(logits, min(size + 1, vocab))
        count = size
        if weight_limit is not None:
            w = weights(values[:size], top, inverse)
            count = int(((torch.cumsum(w, dim=0) - w) < weight_limit).sum())
        if count < size or size == limit:
            break
        size = min(limit, size * 16)
    threshold = values[count - 1]
    above = ids[values > threshold]
    complete = len(values) == vocab or bool(values[-1] < threshold)
    ties = ids[values == threshold].sort().values if complete else _equal(logits, threshold)
    return torch.cat((above, ties[: count - len(above)])).sort().values


def _total(w: torch.Tensor) -> int:
    return int(w.sum(dtype=torch.float64))  # integers up to 2^53


def _equal(logits: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return (logits == value).nonzero()[:, 0]


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
    bits = uniform_bits(rows.seeds, indices)
    drawn = draw(logits, rows.temperature, rows.top_k, rows.top_p, rows.min_p, bits)
    return torch.where(rows.temperature > 0, drawn, best)
