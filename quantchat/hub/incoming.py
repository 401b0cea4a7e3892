"""The folder where downloads grow until they are whole, and the step that makes them visible.

Owns `<models>/.incoming`: a kept folder per model for what can be resumed, a unique one per attempt
for the rest; each is locked while a process works in it. A model appears under its final name by
one rename, or not at all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quantchat import paths
from quantchat.errors import DownloadError
from quantchat.hub.locks import is_locked, try_lock
from quantchat.hub.manifest import read_manifest
from quantchat.sizes import size_words

_STALE_S = 24 * 3600.0
_FRESH_S = 60.0
_SPARE_BYTES = 64 << 20
_PARTIAL_STALE_S = 30 * 24 * 3600.0
PARTIAL = ".partial"
LOCK = ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """A private folder of one fetch."""

    payload: Path
    """Becomes the model's folder."""
    work: Path
    """Anything needed on the way; thrown away."""

    def clear(self) -> None:
        """Empty both folders for the next source."""
        for folder in (self.payload, self.work):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)


def incoming_dir() -> Path:
    """The folder of everything unfinished, made where missing."""
    root = paths.models_dir() / ".incoming"
    root.mkdir(mode=0o700, exist_ok=True)
    return root


@contextlib.contextmanager
def staging(name: str) -> Iterator[Staging]:
    """A fresh staging folder, removed at the end whatever happened."""
    root = incoming_dir()
    _sweep(root)
    folder = root / f"{name[:60]}-{uuid.uuid4().hex[:12]}"
    folder.mkdir(mode=0o700)
    lock = (folder / LOCK).open("w")
    try:
        try_lock(lock)
        stage = Staging(payload=folder / "payload", work=folder / "work")
        stage.clear()
        yield stage
    finally:
        lock.close()
        shutil.rmtree(folder, ignore_errors=True)


def check_place(folder_name: str) -> None:
    """Raise DownloadError where a model would go is something that is not quantchat's to replace."""
    target = paths.models_dir() / folder_name
    empty = target.is_dir() and not any(target.iterdir())
    if os.path.lexists(target) and not empty and read_manifest(target) is None:
        raise DownloadError(
            f"{target} is in the way, and quantchat did not make it",
            hint="move it elsewhere; a model of your own is loaded by its path",
        )


def publish(payload: Path, folder_name: str) -> Path:
    """Rename the whole payload into place; keeps an equal one that another process put there."""
    target = paths.models_dir() / folder_name
    for _ in range(3):
        check_place(folder_name)
        try:
            os.rename(payload, target)
            return target
        except OSError as error:
            if not os.path.lexists(target):
                raise DownloadError(
                    f"cannot move the model to {target}: {error.strerror}"
                ) from error
        if is_whole(target):
            return target
        with contextlib.suppress(OSError):
            discard(target)
    raise DownloadError(f"cannot move the model to {target}", hint="is something holding it open?")


def discard(folder: Path) -> None:
    """Make a model disappear by one rename, then free its space."""
    root = incoming_dir()
    aside = root / f"removed-{uuid.uuid4().hex[:12]}"
    os.rename(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


def check_space(needed_bytes: int) -> None:
    """Raise DownloadError when the models folder's disk cannot hold so much more."""
    folder = paths.models_dir()
    free = shutil.disk_usage(folder).free
    if needed_bytes + _SPARE_BYTES > free:
        raise DownloadError(
            f"not enough room in {folder}: {size_words(needed_bytes)} needed, "
            f"{size_words(free)} free",
            hint="free some space, or set QUANTCHAT_HOME to a folder on another disk",
        )


def is_whole(folder: Path) -> bool:
    """Whether a folder holds all files of a finished download."""
    manifest = read_manifest(folder)
    return manifest is not None and manifest.is_complete(folder)


def _sweep(root: Path) -> None:
    for folder in root.iterdir():
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    try:
        age_s = time.time() - _newest_s(folder)
    except OSError:
        return False
    if folder.suffix == PARTIAL:
        return age_s > _PARTIAL_STALE_S and not is_locked(folder / LOCK)
    if age_s > _STALE_S:
        return True
    if age_s < _FRESH_S:
        return False
    try:
        with (folder / LOCK).open("r+") as lock:
            return try_lock(lock)
    except OSError:
        return False


def _newest_s(folder: Path) -> float:
    times = [folder.stat().st_mtime]
    for where, _, files in os.walk(folder):
        times.extend(os.stat(os.path.join(where, name)).st_mtime for name in files)
    return max(times)
