"""Means with their standard errors. Positions are taken as independent, as llama.cpp does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from quantchat.intervals import wilson


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its standard error."""

    value: float
    se: float


@dataclass(frozen=True, slots=True)
class Share(Estimate):
    """A counted share, and the bounds of its 95 % interval (Wilson)."""

    low: float
    high: float


def mean(values: torch.Tensor) -> Estimate:
    """Mean of float64 [S]; the error is NaN below two values, the mean below one."""
    count = values.numel()
    if count == 0:
        return Estimate(math.nan, math.nan)
    error = float(values.std()) / math.sqrt(count) if count > 1 else math.nan
    return Estimate(float(values.mean()), error)


def share(hits: torch.Tensor) -> Share:
    """Share of true values in bool [S], error sqrt(p (1 - p) / (S - 1)); NaN of nothing."""
    count, within = hits.numel(), wilson(int(hits.sum()), hits.numel())
    if within is None:
        return Share(math.nan, math.nan, math.nan, math.nan)
    p = float(hits.double().mean())
    return Share(p, math.sqrt(p * (1 - p) / (count - 1)) if count > 1 else math.nan, *within)


def root_mean_square(values: torch.Tensor) -> Estimate:
    """Root of the mean square; the error is carried through the root to first order."""
    squares = mean(values * values)
    root = math.sqrt(squares.value) if squares.value >= 0 else math.nan
    return Estimate(root, squares.se / (2 * root) if root > 0 else 0.0)


def exponential(estimate: Estimate) -> Estimate:
    """exp of an estimate, its error to first order; infinite where exp overflows."""
    try:
        value = math.exp(estimate.value)
    except OverflowError:
        value = math.inf
    return Estimate(value, value * estimate.se)


def quantile(ordered: torch.Tensor, q: float) -> float:
    """Quantile of ascending float64 [S], interpolated linearly; NaN of nothing."""
    count = ordered.numel()
    if count == 0:
        return math.nan
    place = q * (count - 1)
    low = math.floor(place)
    high = min(low + 1, count - 1)
    start = float(ordered[low])
    return start + (float(ordered[high]) - start) * (place - low)


def quantile_error(ordered: torch.Tensor, q: float) -> float:
    """Standard error of a quantile of ascending float64 [S]; NaN where too few lie beyond it.

    Half the span between the ranks one binomial standard deviation to either side of q (S - 1).
    """
    count = ordered.numel()
    if count < 2:
        return math.nan
    place, spread = q * (count - 1), math.sqrt(count * q * (1 - q))
    low, high = math.floor(place - spread), math.ceil(place + spread)
    if low < 0 or high > count - 1:
        return math.nan
    return float(ordered[high] - ordered[low]) / 2
