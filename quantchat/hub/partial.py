"""Unfinished downloads: one folder per model, kept until it is whole, one process at a time in it.

Owns `<models>/.incoming/NAME.partial`: `payload` with the files that are whole and checked, `work`
with those that still grow, `about.json` for lists. Whoever comes second waits for the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from quantchat.errors import Cancelled, UsageError
from quantchat.hub.incoming import LOCK, PARTIAL, incoming_dir
from quantchat.hub.locks import is_locked, open_locked

_ABOUT = "about.json"
_ABOUT_BYTES = 1 << 16
_WAIT_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """The folder of one unfinished model, ours while it is open."""

    folder: Path
    payload: Path
    """Becomes the model's folder."""
    work: Path
    """Unfinished files and their records."""

    def describe(self, name: str, total_bytes: int) -> None:
        """Write down whose bytes these are."""
        fresh = self.folder / f"{_ABOUT}.new"
        fresh.write_text(json.dumps({"name": name, "total_bytes": total_bytes}), encoding="utf-8")
        os.replace(fresh, self.folder / _ABOUT)

    def remove(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A download that did not end yet."""

    name: str
    done_bytes: int
    total_bytes: int
    running: bool
    """A live process works at it."""


@contextlib.contextmanager
def partial(
    folder_name: str, *, cancel: threading.Event, on_wait: Callable[[], None]
) -> Iterator[Partial]:
    """The model's folder, once no other process has it; removed at the end when it holds nothing
    that was described.

    `on_wait` is called ten times a second while another one has it. Raises Cancelled.
    """
    folder = incoming_dir() / f"{folder_name}{PARTIAL}"
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = open_locked(folder / LOCK)
        if lock is not None:
            break
        if cancel.wait(_WAIT_S):
            raise Cancelled("the download was stopped")
        on_wait()
    found = Partial(folder=folder, payload=folder / "payload", work=folder / "work")
    try:
        found.payload.mkdir(exist_ok=True)
        found.work.mkdir(exist_ok=True)
        yield found
    finally:
        if sys.platform == "win32":
            lock.close()
        if not _size_bytes(folder) or not _about(folder)[0]:
            found.remove()
        lock.close()


def unfinished() -> list[Unfinished]:
    """Every download that can go on, by name."""
    found = []
    for folder in sorted(incoming_dir().glob(f"*{PARTIAL}")):
        name, total_bytes = _about(folder)
        if name:
            found.append(
                Unfinished(
                    name=name,
                    done_bytes=_size_bytes(folder),
                    total_bytes=total_bytes,
                    running=is_locked(folder / LOCK),
                )
            )
    return found


def discard_partial(name: str) -> int | None:
    """Delete what came of an unfinished download; the bytes freed, None when there is none."""
    for folder in incoming_dir().glob(f"*{PARTIAL}"):
        if _about(folder)[0] != name:
            continue
        lock = open_locked(folder / LOCK)
        if lock is None:
            raise UsageError(f"{name} is being downloaded now", hint="stop that download first")
        freed_bytes = _size_bytes(folder)
        if sys.platform == "win32":
            lock.close()
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()
        return freed_bytes
    return None


def _about(folder: Path) -> tuple[str, int]:
    path = folder / _ABOUT
    try:
        if path.stat().st_size > _ABOUT_BYTES:
            return "", 0
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return "", 0
    if not isinstance(data, dict):
        return "", 0
    name, total_bytes = data.get("name"), data.get("total_bytes")
    if not isinstance(name, str) or not isinstance(total_bytes, int):
        return "", 0
    return name, total_bytes


def _size_bytes(folder: Path) -> int:
    """Bytes of model files, whole or not."""
    total_bytes = 0
    for path in (*folder.glob("payload/*"), *folder.glob("work/*.part")):
        with contextlib.suppress(OSError):
            total_bytes += path.stat().st_size
    return total_bytes
