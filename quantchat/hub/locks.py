"""Locks between processes: one file, free again when its holder dies, whatever killed it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def try_lock(file: IO[str]) -> bool:
    """Take the lock of an open file; False while somebody else has it."""
    if sys.platform == "win32":
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    else:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            # A file system without locks must not make anybody wait for ever.
            return True
        return True


def open_locked(path: Path) -> IO[str] | None:
    """The open, locked file at `path`, made where missing; None while somebody else has it."""
    try:
        file = path.open("a+", encoding="utf-8")
    except FileNotFoundError:
        return None
    if try_lock(file) and _is_still(file, path):
        return file
    file.close()
    return None


def is_locked(path: Path) -> bool:
    """Whether a live process holds the file at `path`."""
    if not path.exists():
        return False
    file = open_locked(path)
    if file is None:
        return path.exists()
    file.close()
    return False


def _is_still(file: IO[str], path: Path) -> bool:
    """Whether `path` names the file that was locked: its last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
