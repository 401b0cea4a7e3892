"""Comparisons as files: names that say what they hold, written in one step, never over another."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

from quantchat.comparing.json_export import to_json
from quantchat.comparing.markdown import to_markdown
from quantchat.comparing.record import Comparison
from quantchat.comparing.svg import to_svg
from quantchat.comparing.words import names
from quantchat.errors import UsageError

Kind: TypeAlias = Literal["markdown", "json", "svg"]
WRITERS: Mapping[Kind, tuple[str, Callable[[Comparison], str]]] = MappingProxyType(
    {
        "markdown": (".md", to_markdown),
        "json": (".json", to_json),
        "svg": (".svg", to_svg),
    }
)
"""Kind -> ending and text."""
NUMBERS = 1000
SIDE_CHARACTERS = 40


def write_export(comparison: Comparison, folder: Path, *, kinds: Sequence[Kind]) -> list[Path]:
    """Write one file of each kind into the folder, which is made; files there stay as they are.

    All files of a call share their name. Raises UsageError where the folder cannot be written.
    """
    made = [WRITERS[kind] for kind in dict.fromkeys(kinds)]
    files = [
        (ending, write(comparison).encode("utf-8", "backslashreplace")) for ending, write in made
    ]
    stem = stem_of(comparison)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, NUMBERS):
            numbered = stem if number == 1 else f"{stem}-{number}"
            paths = [folder / f"{numbered}{ending}" for ending, _ in files]
            if not any(os.path.lexists(path) for path in paths) and _place(files, paths):
                return paths
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written: {error.strerror or error}", hint="name another folder"
        ) from error
    raise UsageError(f"{folder}: too many exports of this second", hint="name another folder")


def prepare(folder: Path) -> None:
    """Make the folder before the work begins; raises UsageError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        problem = "" if os.access(folder, os.W_OK | os.X_OK) else "no permission"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise UsageError(f"{folder}: cannot be written: {problem}", hint="name another folder")


def stem_of(comparison: Comparison) -> str:
    """The name without its ending: time in UTC, then what tells the sides apart."""
    made = datetime.fromtimestamp(comparison.made_s, UTC).strftime("%Y%m%d-%H%M%S")
    left, right = (
        re.sub(r"[^a-z0-9.]+", "-", side.lower())[:SIDE_CHARACTERS].strip("-.")
        for side in names(comparison)
    )
    return f"compare-{made}-{left or 'left'}-{right or 'right'}"


def _place(files: Sequence[tuple[str, bytes]], paths: Sequence[Path]) -> bool:
    """All files at their paths, or none where another came first."""
    placed: list[Path] = []
    try:
        for (_, content), path in zip(files, paths, strict=True):
            _write_new(content, path)
            placed.append(path)
    except FileExistsError:
        _remove(placed)
        return False
    except OSError:
        _remove(placed)
        raise
    return True


def _write_new(content: bytes, path: Path) -> None:
    """The file whole or not at all; raises FileExistsError where there is one."""
    handle, name = tempfile.mkstemp(prefix=".compare-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:
            # A file system without links: the name is taken first, then filled in one step.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
