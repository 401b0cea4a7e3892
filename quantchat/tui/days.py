"""Times as lists show them: how long ago, and the day that a row is grouped under."""

from __future__ import annotations

import time
from datetime import datetime


def ago(then_s: float, now_s: float) -> str:
    """How long ago, in one word."""
    seconds = max(0.0, now_s - then_s)
    for limit, unit, name in ((3600, 60, "min"), (86_400, 3600, "h"), (7 * 86_400, 86_400, "d")):
        if seconds < limit:
            return f"{int(seconds // unit)} {name}" if seconds >= unit else "now"
    return time.strftime("%Y-%m-%d", time.localtime(then_s))


def day_of(then_s: float, now_s: float) -> str:
    """Today, Yesterday, a day of the last week, the rest of this month, then months."""
    then, now = datetime.fromtimestamp(then_s), datetime.fromtimestamp(now_s)
    days = (now.date() - then.date()).days
    if days <= 0:
        return "Today"
    if days == 1:
        return "Yesterday"
    if days < 7:
        return f"{then:%A}"
    if (then.year, then.month) == (now.year, now.month):
        return f"Earlier in {then:%B}"
    return f"{then:%B %Y}"
