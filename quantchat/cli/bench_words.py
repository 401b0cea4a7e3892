"""Lists in options of the benchmarks: words and numbers between commas."""

from __future__ import annotations

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
