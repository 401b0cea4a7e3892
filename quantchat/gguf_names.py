"""How the files of a split GGUF model are called: `NAME-00001-of-00003.gguf` and its siblings."""

from __future__ import annotations

import re

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
