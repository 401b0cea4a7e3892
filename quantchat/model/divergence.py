"""How far one model's predictions are from another's, position by position.

Owns KL divergence, agreement of the likeliest token and the probability of the token that came.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Positions:
    """Per scored position, float64 [S] on the CPU except `same_top` (bool)."""

    kl: torch.Tensor
    """Nats, KL(base || other)."""
    same_top: torch.Tensor
    base_nll: torch.Tensor
    nll: torch.Tensor
    """Negative log-probability of the token that came."""

    @property
    def finite(self) -> torch.Tensor:
        """bool [S]."""
        return self.kl.isfinite() & self.nll.isfinite() & self.base_nll.isfinite()

    def kept(self) -> Positions:
        """The finite positions alone."""
        keep = self.finite
        return Positions(self.kl[keep], self.same_top[keep], self.base_nll[keep], self.nll[keep])


def compare(base: torch.Tensor, other: torch.Tensor, targets: torch.Tensor) -> Positions:
    """Positions of log-probabilities float32 [R, V] against base [R, V]; targets int64 [R].

    KL is summed as p ln(p / q) - p + q: the same sum for distributions, but no term is negative
    and rounding in the two normalisers cancels, so that it is good far below 1e-7.
    """
    p, ratio = base.exp(), base - other
    near = p * (torch.expm1(-ratio) + ratio)
    terms = torch.where(ratio.abs() < 0.5, near, p * ratio - p + other.exp())
    kl = terms.sum(dim=-1, dtype=torch.float64)
    if not bool(kl.isfinite().all()):
        # 0 * inf: a token that the base rules out costs no more than what the other gives it.
        ruled_out = torch.where(base.isneginf(), other.exp(), terms)
        kl = ruled_out.sum(dim=-1, dtype=torch.float64)
    rows = targets[:, None]
    return Positions(
        kl.cpu(),
        (base.argmax(dim=-1) == other.argmax(dim=-1)).cpu(),
        -base.gather(1, rows)[:, 0].double().cpu(),
        -other.gather(1, rows)[:, 0].double().cpu(),
    )


def concat(parts: list[Positions]) -> Positions:
    """Positions one after another."""
    return Positions(
        torch.cat([part.kl for part in parts]),
        torch.cat([part.same_top for part in parts]),
        torch.cat([part.base_nll for part in parts]),
        torch.cat([part.nll for part in parts]),
    )
