"""Scores of a few tokens out of log-probabilities: what a model gives them and what it likes best.

Owns the making of records; the numbers are the model's `divergence`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from quantchat.engine.sampler import not_finite
from quantchat.events import Candidate, TokenScore
from quantchat.model.divergence import compare

TOP = 5


def token_scores(
    log_probs: torch.Tensor,
    base: torch.Tensor | None,
    token_ids: tuple[int, ...],
    spell: Callable[[int], str],
) -> tuple[TokenScore, ...]:
    """Scores of tokens by log-probabilities float32 [R, V], beside those of a base [R, V].

    Raises EngineError where a number is not finite.
    """
    targets = torch.tensor(token_ids, device=log_probs.device)
    top = _top(log_probs, spell)
    if base is None:
        picked = log_probs.gather(1, targets[:, None])[:, 0].double()
        return tuple(
            TokenScore(
                token_id=token_id,
                text=spell(token_id),
                p=p,
                top=liked,
                base_p=None,
                base_top=(),
                kl=None,
                same_top=None,
            )
            for token_id, p, liked in zip(token_ids, _floats(picked.exp()), top, strict=True)
        )
    found = compare(base, log_probs, targets)
    return tuple(
        TokenScore(
            token_id=token_id,
            text=spell(token_id),
            p=p,
            top=liked,
            base_p=base_p,
            base_top=base_liked,
            kl=kl,
            same_top=same_top,
        )
        for token_id, p, liked, base_p, base_liked, kl, same_top in zip(
            token_ids,
            _floats((-found.nll).exp()),
            top,
            _floats((-found.base_nll).exp()),
            _top(base, spell),
            _floats(found.kl),
            found.same_top.tolist(),
            strict=True,
        )
    )


def _top(log_probs: torch.Tensor, spell: Callable[[int], str]) -> list[tuple[Candidate, ...]]:
    """The likeliest first is the very one that `compare` takes for the likeliest, ties or not."""
    values, ids = log_probs.topk(min(TOP, log_probs.shape[1]), dim=-1)
    rows = zip(
        log_probs.argmax(dim=-1).tolist(),
        ids.tolist(),
        values.double().exp().tolist(),
        strict=True,
    )
    return [_ordered(best, row_ids, row_p, spell) for best, row_ids, row_p in rows]


def _ordered(
    best: int, ids: list[int], p: list[float], spell: Callable[[int], str]
) -> tuple[Candidate, ...]:
    """`best` is one of the likeliest, but where more than TOP are equally likely maybe not in `ids`."""
    others = [pair for pair in zip(ids, p, strict=True) if pair[0] != best]
    pairs = [(best, p[0]), *others][: len(ids)]
    return tuple(Candidate(token_id=token_id, text=spell(token_id), p=q) for token_id, q in pairs)


def _floats(values: torch.Tensor) -> list[float]:
    if not bool(values.isfinite().all()):
        raise not_finite()
    numbers: list[float] = values.tolist()
    return numbers
