"""GGUF models in several files: one name for all parts.

The naming rule is gguf_names'; reading the parts is the checkpoints' business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from quantchat.gguf_names import split_parts as split_parts

_BESIDE = re.compile(
    r"mmproj.*|imatrix.*|(?!.*[-._](?:i?q\d|b?f16|f32)).*[-._]imatrix\.gguf", re.DOTALL
)
"""Names of the eyes of a model, and of importance matrices."""


def first_part(name: str) -> str:
    """The part that stands for all; the name itself where it is no part."""
    return next(iter(split_parts(name)), name)


def without_later_parts(names: Iterable[str]) -> list[str]:
    """The names, each split model by its first part alone; incomplete ones and what lies beside a
    model are left out.
    """
    there = {name for name in names if not _BESIDE.fullmatch(name.rpartition("/")[2].lower())}
    kept = []
    for name in sorted(there):
        parts = split_parts(name)
        if not parts or (name == parts[0] and there.issuperset(parts)):
            kept.append(name)
    return kept
