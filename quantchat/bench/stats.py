"""Medians and spread of repeated measurements."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Median, the middle 60 % and the whole range of some samples, in their unit."""

    median: float
    p20: float
    p80: float
    lowest: float
    highest: float
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
    """Median and spread of at least one sample."""
    return Summary(
        median=statistics.median(values),
        p20=percentile(values, 0.2),
        p80=percentile(values, 0.8),
        lowest=min(values),
        highest=max(values),
        samples=len(values),
    )
