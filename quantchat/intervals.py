"""Where a share lies that was counted: Wilson's interval, honest at few counts and at 0 and 1."""

from __future__ import annotations

import math

Z_95 = 1.959964


def wilson(hits: int, count: int) -> tuple[float, float] | None:
    """The bounds of 95 % around hits / count; None of nothing."""
    if not count:
        return None
    part, z2 = hits / count, Z_95**2
    middle = part + z2 / (2 * count)
    spread = Z_95 * math.sqrt(part * (1 - part) / count + z2 / (4 * count**2))
    scale = 1 + z2 / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
