"""GGUF models in several files: `NAME-00001-of-00003.gguf` and its siblings.

Owns the naming rule alone; reading the parts is the checkpoints' business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_PARTS_MAX = 1000


def split_parts(name: str) -> tuple[str, ...]:
    """The names of all parts that a part's name implies, the first one first; empty for others."""
    found = _SPLIT.fullmatch(name)
    if found is None:
        return ()
    count = int(found["count"])
    if not 1 <= int(found["number"]) <= count or not 1 < count <= _PARTS_MAX:
        return ()
    return tuple(f"{found['stem']}-{n:05d}-of-{found['count']}.gguf" for n in range(1, count + 1))


def first_part(name: str) -> str:
    """The part that stands for all; the name itself where it is no part."""
    return next(iter(split_parts(name)), name)


def without_later_parts(names: Iterable[str]) -> list[str]:
    """The names, each split model by its first part alone, incomplete ones left out."""
    there = set(names)
    kept = []
    for name in sorted(there):
        parts = split_parts(name)
        if not parts or (name == parts[0] and there.issuperset(parts)):
            kept.append(name)
    return kept
