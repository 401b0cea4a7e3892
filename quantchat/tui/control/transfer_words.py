"""A download in words: how much came, how fast, how long yet, or why not."""

from __future__ import annotations

from collections.abc import Sequence

from quantchat.tui import figures
from quantchat.tui.control.transfers import UNDER_WAY, Transfer


def amount(line: Transfer) -> str:
    """`45.0 MiB of 93.8 MiB`, as far as it is known."""
    if not line.total_bytes:
        return figures.size(line.done_bytes) if line.done_bytes else ""
    total = figures.size(line.total_bytes)
    return f"{figures.size(line.done_bytes)} of {total}" if line.done_bytes else total


def state(line: Transfer) -> str:
    """Speed and time left, or what stands in their place."""
    if line.phase == "running":
        parts = [f"{figures.size(line.bytes_per_s)}/s"] if line.bytes_per_s else []
        if line.left_s is not None:
            parts.append(f"{figures.time_left(line.left_s)} left")
        return " · ".join(part for part in (*parts, line.waits, line.message) if part)
    if line.phase == "elsewhere":
        return "another quantchat fetches it"
    word = {"stalled": "stalled", "waiting": "waits", "stopped": "stopped", "failed": "failed"}
    text = f"{word[line.phase]}, {line.waits}" if line.waits else word[line.phase]
    return f"{text}: {line.message}" if line.message else text


def share(line: Transfer) -> float | None:
    """How much of it came; None while the total is not known."""
    return min(1.0, line.done_bytes / line.total_bytes) if line.total_bytes else None


def under_way(lines: Sequence[Transfer]) -> Transfer | None:
    """The download to speak of where there is room for one: the one at work, else the next."""
    for phases in (("running", "stalled"), ("elsewhere",), ("waiting",)):
        found = next((line for line in lines if line.phase in phases), None)
        if found is not None:
            return found
    return None


def summary(lines: Sequence[Transfer], line: Transfer) -> str:
    """One line about `line`, its figures first, and how many others are on their way."""
    others = sum(other.phase in UNDER_WAY for other in lines if other.name != line.name)
    name = line.name.rpartition("/")[2]
    parts = [f"fetching {amount(line)}".rstrip(), state(line), name]
    if line.phase == "waiting":
        parts = [f"{name} {state(line)}"]
    if others:
        parts.append(f"{others} more on the list")
    return " · ".join(part for part in parts if part)
