"""How far a quantized model's predictions are from the reference's, position by position.

Owns KL divergence, agreement of the likeliest token and the change in the true token's probability.
Positions with a number that is not finite are counted and left out of every mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quantchat.evals.statistics import (
    Estimate,
    mean,
    quantile,
    quantile_error,
    root_mean_square,
    share,
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Summary over the finite positions."""

    positions: int
    nonfinite_positions: int
    kl_mean: Estimate
    kl_median: float
    kl_median_se: float
    kl_p99: float
    kl_p99_se: float
    kl_p999: float
    kl_p999_se: float
    """Errors of quantiles are NaN where too few positions lie beyond them."""
    kl_max: float
    same_top: Estimate
    """Share of positions where both models' likeliest token is the same."""
    delta_p_mean: Estimate
    """Change in probability of the token that came, other minus base."""
    delta_p_rms: Estimate


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


def summarize(positions: Positions) -> Divergence:
    """Means, quantiles and errors."""
    kept = positions.kept()
    ordered = kept.kl.sort().values
    delta_p = (-kept.nll).exp() - (-kept.base_nll).exp()
    return Divergence(
        positions=kept.kl.numel(),
        nonfinite_positions=positions.kl.numel() - kept.kl.numel(),
        kl_mean=mean(kept.kl),
        kl_median=quantile(ordered, 0.5),
        kl_median_se=quantile_error(ordered, 0.5),
        kl_p99=quantile(ordered, 0.99),
        kl_p99_se=quantile_error(ordered, 0.99),
        kl_p999=quantile(ordered, 0.999),
        kl_p999_se=quantile_error(ordered, 0.999),
        kl_max=quantile(ordered, 1.0),
        same_top=share(kept.same_top),
        delta_p_mean=mean(delta_p),
        delta_p_rms=root_mean_square(delta_p),
    )
