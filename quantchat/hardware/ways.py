"""Loads that the plan would allow instead of what it refused, as values."""

from __future__ import annotations

from typing import Literal

from quantchat.requests import WayOut


def ways_of(
    field: Literal["scheme", "kv", "context_tokens", "device"], *values: str | int, words: str = ""
) -> tuple[WayOut, ...]:
    """The same field with other values."""
    return tuple(WayOut(field=field, value=value, words=words) for value in values)
