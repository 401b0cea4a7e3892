"""What evaluations keep on disk between runs: chats that models wrote, and references' states.

Owns the files in the references folder: names are hashes of all that went in, drafts are renamed
into place, the oldest go first, and a damaged file is as good as none.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from quantchat import paths
from quantchat.checkpoints.json_file import read_object
from quantchat.checkpoints.mapping import FileMapping
from quantchat.checkpoints.safetensors_header import read_header, values
from quantchat.errors import CheckpointError
from quantchat.evals.text import Passages, Window

if TYPE_CHECKING:
    import torch

KEEP_FILES = 32
KEEP_BYTES = 2 << 30
LEAVE_FREE_BYTES = 2 << 30
MAX_WINDOWS = 1 << 16
MAX_WINDOW_TOKENS = 1 << 20
DTYPES = frozenset({"F32", "F16", "BF16"})

logger = logging.getLogger(__name__)


def chats(key: str, *, vocab: int) -> tuple[Window, ...] | None:
    """Windows kept under `key`, None where there are none that can be used."""
    path = _path(key, "json")
    if not path.is_file():
        return None
    try:
        table, _ = read_object(path)
        windows = tuple(_window(described, vocab) for described in table["windows"][:MAX_WINDOWS])
        if not windows:
            raise ValueError("no windows")
    except (CheckpointError, ValueError, KeyError, TypeError) as error:
        _drop(path, error)
        return None
    _touch(path)
    return windows


def keep_chats(key: str, windows: tuple[Window, ...]) -> None:
    """Keep windows under `key`; trouble is logged."""
    table = [{"first_target": window.first_target, "ids": window.ids} for window in windows]
    path = _path(key, "json")
    try:
        with _draft(path) as draft:
            draft.write_text(json.dumps({"windows": table}), encoding="utf-8")
    except OSError as error:
        logger.warning("chats are not kept: %s", error)
    _sweep(path.parent)


def states(key: str, passages: Passages, *, hidden: int) -> tuple[torch.Tensor, ...] | None:
    """States [S, C] of each window's scored rows, None where there are none that can be used.

    They are views of the mapped file and must not be written to.
    """
    path = _path(key, "safetensors")
    if not path.is_file():
        return None
    try:
        mapping = FileMapping(path)
        try:
            entries = read_header(mapping).tensors
            found = []
            for number, window in enumerate(passages.windows):
                entry = entries[f"window.{number}"]
                if entry.shape != (window.scored_tokens, hidden) or entry.dtype not in DTYPES:
                    raise ValueError(f"{entry.name} is {entry.dtype} {entry.shape}")
                found.append(values(entry, mapping.view(entry.offset, entry.nbytes)))
        finally:
            mapping.close()
    except (CheckpointError, ValueError, KeyError) as error:
        _drop(path, error)
        return None
    _touch(path)
    return tuple(found)


def keep_states(key: str, hidden: tuple[torch.Tensor, ...]) -> None:
    """Keep states under `key` where they are not too many; trouble is logged."""
    from safetensors.torch import save_file

    path = _path(key, "safetensors")
    size = sum(tensor.nbytes for tensor in hidden)
    try:
        if size > KEEP_BYTES or size + LEAVE_FREE_BYTES > shutil.disk_usage(path.parent).free:
            logger.warning("the reference of %d MiB is not kept: too large", size >> 20)
            return
        with _draft(path) as draft:
            save_file({f"window.{i}": tensor for i, tensor in enumerate(hidden)}, draft)
    except OSError as error:
        logger.warning("the reference is not kept: %s", error)
    _sweep(path.parent)


def _path(key: str, suffix: str) -> Path:
    return paths.references_dir() / f"{key}.{suffix}"


def _window(described: object, vocab: int) -> Window:
    if not isinstance(described, dict):
        raise ValueError("a window is no table")
    ids, first = described["ids"], described["first_target"]
    if not isinstance(ids, list) or not 2 <= len(ids) <= MAX_WINDOW_TOKENS:
        raise ValueError("a window has no ids")
    if not all(type(token) is int and 0 <= token < vocab for token in ids):
        raise ValueError("an id is outside the vocabulary")
    if type(first) is not int or not 0 < first < len(ids):
        raise ValueError("no token of a window is scored")
    return Window(tuple(ids), first)


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place at the end."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
    os.close(number)
    draft = Path(name)
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(path)


def _drop(path: Path, why: Exception) -> None:
    logger.warning("removing the kept file %s: %s", path.name, why)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove the oldest files beyond KEEP_FILES and KEEP_BYTES, and drafts left behind."""
    with contextlib.suppress(OSError):
        files = sorted(
            (path for path in folder.iterdir() if path.is_file()),
            key=lambda path: path.stat().st_mtime,
            reverse=True,
        )
        total = 0
        for place, path in enumerate(files):
            total += path.stat().st_size
            if place >= KEEP_FILES or total > KEEP_BYTES:
                path.unlink(missing_ok=True)
