"""How much memory a file's own text may take while it is read: twice the model's size, and a MiB.

Owns the rule and the estimate of what JSON becomes. Real models come nowhere near: their bytes are
weights, which stay where they lie.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from quantchat.errors import CheckpointError

FREE_BYTES = 1 << 20
"""For anything, whatever its size."""

_ASTRAL = re.compile(rb"[\xf0-\xff]")
"""Bytes of characters that make a text four times as wide."""
_TABLE_BYTES = 300
_LIST_BYTES = 112
_PAIR_BYTES = 350
_ITEM_BYTES = 48
_QUOTE_BYTES = 32
"""What a mark of JSON costs at most as Python's objects, those included that parsing makes on the
way; a number or a text counts with its comma."""


def room_for(size: int) -> int:
    """What a model of `size` bytes may take."""
    return 2 * size + FREE_BYTES


def folder_room(folder: Path) -> int:
    """What a model in a folder may take, by all of its files."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file():
                    total += entry.stat().st_size
    except OSError:
        return FREE_BYTES
    return room_for(total)


def json_bytes(data: bytes) -> int:
    """The most that parsing takes, `data` included."""
    width = 1 if data.isascii() else 4 if _ASTRAL.search(data) else 2
    return (
        len(data) * (1 + 2 * width)
        + data.count(b"{") * _TABLE_BYTES
        + data.count(b"[") * _LIST_BYTES
        + data.count(b":") * _PAIR_BYTES
        + data.count(b",") * _ITEM_BYTES
        + data.count(b'"') * _QUOTE_BYTES
    )


def check_room(path: Path, what: str, needed: int) -> None:
    """Raises CheckpointError where what is made of a file takes more than its folder's models may."""
    if needed > FREE_BYTES and needed > folder_room(path.parent):
        raise too_large(path, what)


def too_large(path: Path, what: str) -> CheckpointError:
    """The error for what would take more than its room."""
    return CheckpointError(
        path,
        f"{what} would take more memory than twice the model's size",
        hint="the file is cut off, or made to fill the memory; download it again",
    )
