"""Scales of plots: a round top, and labels that say their unit."""

from __future__ import annotations

import math

STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


def round_top(highest: float) -> float:
    """The least round number that is not below `highest`; 1 where there is nothing."""
    if not math.isfinite(highest) or highest <= 0:
        return 1.0
    scale: float = 10.0 ** math.floor(math.log10(highest))
    return next(step * scale for step in STEPS if step * scale >= highest * (1 - 1e-9))


def time_label(seconds: float) -> str:
    """Seconds, milliseconds or microseconds without useless digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale * (1 - 1e-9):
            return f"{seconds / scale:.3g} {unit}"
    return "0"


def speed_label(tok_per_s: float) -> str:
    """Tokens a second."""
    return f"{tok_per_s:,.4g} tok/s" if tok_per_s else "0"


def tokens_label(tokens: float) -> str:
    """Tokens, thousands as k."""
    if tokens >= 1000:
        return f"{tokens / 1000:.3g}k tok"
    return f"{tokens:.3g} tok" if tokens else "0"
