"""What the benchmarks' commands share: lists in options, and the object on the last line."""

from __future__ import annotations

import json
import math
from typing import Any

from quantchat.errors import UsageError


def words(text: str) -> tuple[str, ...]:
    """Words between commas, each once."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def numbers(text: str, option: str) -> tuple[int, ...]:
    """Numbers from 1 between commas; raises UsageError naming the option."""
    found = []
    for word in words(text):
        if not word.isdecimal() or int(word) < 1:
            raise UsageError(f"{option}: {word!r} is no number from 1 on")
        found.append(int(word))
    if not found:
        raise UsageError(f"{option} names nothing", hint="separate several with commas")
    return tuple(found)


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
