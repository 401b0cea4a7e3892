"""What the benchmarks' commands share: what is measured, spreads, and the object on the last line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from quantchat.errors import UsageError

if TYPE_CHECKING:
    from quantchat.bench.stats import Summary


def model_beside(shape: str, model: str) -> str:
    """The model to measure: the starter unless told, none beside a shape; raises UsageError."""
    if model and shape:
        raise UsageError("--model and --shape exclude each other")
    return model or ("" if shape else "starter")


def phase_lines(phases_s: Iterable[tuple[str, Summary]]) -> list[str]:
    """A line for each phase: the median, the smallest and the largest."""
    return [
        f"  {name:12} {spread.median:7.3f} s ({spread.lowest:.3f}-{spread.highest:.3f})"
        for name, spread in phases_s
    ]


def one_line(record: dict[str, Any]) -> str:
    """The record as JSON; numbers that are not finite, which JSON lacks, become null."""
    return json.dumps(_finite(record), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
