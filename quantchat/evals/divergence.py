"""How far a quantized model's predictions are from the reference's, over all positions of a text.

Owns the summary: means, quantiles and their errors. The numbers of a position are the model's
`divergence`; positions with one that is not finite are counted and left out of every mean.
"""

from __future__ import annotations

from dataclasses import dataclass

from quantchat.evals.statistics import (
    Estimate,
    mean,
    quantile,
    quantile_error,
    root_mean_square,
    share,
)
from quantchat.model.divergence import Positions as Positions
from quantchat.model.divergence import compare as compare
from quantchat.model.divergence import concat as concat


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
