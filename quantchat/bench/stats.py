"""Medians and spread of repeated measurements."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Median and the middle 60 % of some samples, in their unit."""

    median: float
    p20: float
    p80: float
    samples: int


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the samples lie, linear between neighbours."""
    assert values and 0 <= share <= 1
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summarize(values: Sequence[float]) -> Summary:
    """Median, p20 and p80 of at least one sample."""
    return Summary(
        median=statistics.median(values),
        p20=percentile(values, 0.2),
        p80=percentile(values, 0.8),
        samples=len(values),
    )
