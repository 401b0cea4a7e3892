"""Where two answers part, and how much two models agree on the same tokens.

Pure figures over records; free of torch and of any screen. KL in nats, shares from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from quantchat.comparing.record import Answer, Round
from quantchat.events import TokenScore

KL_STEPS = (0.02, 0.1, 0.4, 1.0)
"""Nats at which a token takes the next colour, on screens and in drawings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first token in which two answers differ."""

    index: int
    left_piece: str
    """Text of the token; empty where the answer had ended."""
    right_piece: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How much a model agrees with its base on the tokens of an answer."""

    tokens: int
    same_top_share: float
    """Share of tokens at which both models hold the same token likeliest."""
    kl_mean: float
    kl_max: float
    delta_p_mean: float
    """Mean change of the written token's probability; negative where the base was surer."""


def first_divergence(left_ids: Sequence[int], right_ids: Sequence[int]) -> int | None:
    """Index of the first token that differs; None while one is the beginning of the other."""
    pairs = enumerate(zip(left_ids, right_ids, strict=False))
    return next((at for at, (left, right) in pairs if left != right), None)


def divergence(left: Answer, right: Answer) -> Divergence | None:
    """Where two whole answers part; one that stopped where the other went on parts there."""
    at = first_divergence(left.token_ids, right.token_ids)
    if at is None:
        at = min(len(left.token_ids), len(right.token_ids))
        if len(left.token_ids) == len(right.token_ids):
            return None
        shorter = left if len(left.token_ids) == at else right
        if shorter.finish_reason != "stop":
            return None
    return Divergence(index=at, left_piece=_piece(left, at), right_piece=_piece(right, at))


def same_tokens(round_: Round) -> int:
    """Tokens that both answers have in common from their beginning."""
    if round_.right is None:
        return len(round_.left.token_ids)
    left, right = round_.left.token_ids, round_.right.token_ids
    at = first_divergence(left, right)
    return min(len(left), len(right)) if at is None else at


def decode_ratio(round_: Round) -> float | None:
    """Decode speed of the right over the left; None where one is not known."""
    left = round_.left.metrics
    right = None if round_.right is None else round_.right.metrics
    if left is None or right is None or not left.decode_tok_per_s or not right.decode_tok_per_s:
        return None
    return right.decode_tok_per_s / left.decode_tok_per_s


def agreement(scores: Sequence[TokenScore]) -> Agreement | None:
    """Figures over the tokens that were scored beside a base; None where there are none."""
    kls: list[float] = []
    deltas: list[float] = []
    same = 0
    for score in scores:
        if score.kl is None or score.base_p is None or score.same_top is None:
            continue
        kls.append(score.kl)
        deltas.append(score.p - score.base_p)
        same += score.same_top
    if not kls:
        return None
    # max() alone would pass over a NaN that is not the first.
    worst = math.nan if any(math.isnan(kl) for kl in kls) else max(kls)
    return Agreement(
        tokens=len(kls),
        same_top_share=same / len(kls),
        kl_mean=math.fsum(kls) / len(kls),
        kl_max=worst,
        delta_p_mean=math.fsum(deltas) / len(deltas),
    )


def most_divergent(scores: Sequence[TokenScore], count: int) -> list[tuple[int, TokenScore]]:
    """The tokens of largest KL with their index, largest first; earlier ones before equals."""
    known = [(at, score) for at, score in enumerate(scores) if score.kl is not None]
    return sorted(known, key=lambda each: (-(each[1].kl or 0.0), each[0]))[:count]


def scored_pieces(round_: Round) -> list[tuple[str, TokenScore | None]]:
    """What the left wrote, token by token, each with its score where it has one.

    A score's own text is that of its token alone, which may be a part of a character.
    """
    return list(zip_longest(round_.left.pieces, round_.scores[: len(round_.left.pieces)]))


def next_parting(scores: Sequence[TokenScore], after: int) -> int | None:
    """Index of the first token behind `after` whose likeliest tokens differ."""
    behind = range(max(0, after + 1), len(scores))
    return next((at for at in behind if scores[at].same_top is False), None)


def _piece(answer: Answer, at: int) -> str:
    return answer.pieces[at] if at < len(answer.pieces) else ""
