"""Names of packed files; known before torch is."""

from __future__ import annotations

import re


def packed_stem(identity: str, scheme: str, group_size: int) -> str:
    """How the names of a model's packed files under a scheme begin; the layout follows."""
    return f"{_plain(identity)}-{_plain(scheme)}-g{group_size}"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text)
