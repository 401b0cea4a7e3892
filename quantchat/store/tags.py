"""Tags of conversations: words without blanks, told apart without regard to case."""

from __future__ import annotations

import re
from collections.abc import Iterable

TAG_LIMIT = 32
"""Characters."""
TAGS_MAX = 16
"""Of one conversation."""


def tags_from(text: str) -> tuple[str, ...]:
    """Tags out of what was typed: separated by blanks or commas, with or without `#`."""
    return clean(re.split(r"[\s,;]+", text))


def clean(tags: Iterable[str]) -> tuple[str, ...]:
    """Each tag once, cut to its limit, without what cannot stand in one."""
    kept: dict[str, str] = {}
    for tag in tags:
        word = "".join(c for c in tag.lstrip("#") if c.isprintable() and not c.isspace())
        if word and len(kept) < TAGS_MAX:
            kept.setdefault(word[:TAG_LIMIT].casefold(), word[:TAG_LIMIT])
    return tuple(kept.values())


def shown(tags: Iterable[str]) -> str:
    """As they are typed: `#work #code`."""
    return " ".join(f"#{tag}" for tag in tags)


def with_changes(
    tags: tuple[str, ...], add: Iterable[str], remove: Iterable[str]
) -> tuple[str, ...]:
    """The tags with some added at the end and some taken away."""
    gone = {tag.lstrip("#").casefold() for tag in remove}
    return clean([*(tag for tag in tags if tag.casefold() not in gone), *add])
