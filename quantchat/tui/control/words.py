"""Whether a text has all the words that were typed."""

from __future__ import annotations

from collections.abc import Sequence


def has_words(text: str, words: Sequence[str]) -> bool:
    """Both in lower case; a part of a word will do."""
    return all(word in text for word in words)
