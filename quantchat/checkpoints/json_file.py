"""JSON from untrusted files: bounded, an object at the top, no key twice."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from quantchat.checkpoints.room import folder_room, json_bytes, room_for, too_large
from quantchat.errors import CheckpointError

MAX_JSON_BYTES = 16 << 20


def parse_object(data: bytes, path: Path, what: str, *, room: int | None = None) -> dict[str, Any]:
    """The JSON object in `data`; CheckpointError names `what` where it is something else.

    `room`: bytes that it may take as Python's objects; None where `data` is bounded otherwise.
    """
    if room is not None and json_bytes(data) > room:
        raise too_large(path, what)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = counts.most_common(1)[0][0]
            raise CheckpointError(path, f"{what}: key {twice[:80]!r} comes twice")
        return table

    try:
        value = json.loads(data, object_pairs_hook=unique)
    except RecursionError:
        raise CheckpointError(path, f"{what} is nested too deeply") from None
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "bad text or number"
        raise CheckpointError(
            path, f"{what} is not valid JSON: {reason}", hint="the file is cut off or damaged"
        ) from None
    if not isinstance(value, dict):
        raise CheckpointError(path, f"{what} is not a JSON object")
    return value


def read_object(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> tuple[dict[str, Any], bytes]:
    """The JSON object in a file, and the file's bytes."""
    data = read_bytes(path, max_bytes)
    room = None if json_bytes(data) <= room_for(len(data)) else folder_room(path.parent)
    return parse_object(data, path, "the file", room=room), data


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """A small file; CheckpointError where it is none."""
    try:
        if not path.is_file():
            raise CheckpointError(path, "is not a regular file" if path.exists() else "is missing")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, max_bytes) + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(path, f"cannot be read: {reason}") from error
    if len(data) > max_bytes:
        raise CheckpointError(path, f"is larger than {max_bytes >> 20} MiB")
    return data
