"""Folders and files that a typed path may mean: to look into, or to load.

Blocks, so it belongs in a thread; bounded in entries.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from quantchat.paths import expanded

Kind: TypeAlias = Literal["folder", "model", "gguf"]

ENTRIES_MAX = 20_000
SHOWN_MAX = 200
DRIVE = re.compile(r"[A-Za-z]:[\\/]")
ESCAPED = re.compile(r"\\([^A-Za-z0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPath:
    """A folder to look into, a folder that is a model, or a GGUF file."""

    path: str
    """As it would be typed; a folder to look into ends with a slash."""
    name: str
    kind: Kind
    size_bytes: int = 0


def is_path(text: str) -> bool:
    """Whether what is typed means the disk and neither words nor a repository."""
    begins = text.startswith(("/", "./", "../", "~", ".\\", "\\"))
    return begins or text in (".", "..") or DRIVE.match(text) is not None


def pasted_path(text: str) -> str:
    """A path without the quotes, escapes or file:// it was dropped with; other text as it is."""
    path = text
    if text[:1] in ("'", '"') and text[:1] == text[-1:]:
        path = text[1:-1]
    elif text.startswith("file:///"):
        path = unquote(urlsplit(text).path)
    elif os.name == "posix" and is_path(text):
        path = ESCAPED.sub(r"\1", text)
    return path if is_path(path) else text


def found_paths(text: str) -> list[FoundPath]:
    """What begins like the typed path: models first, then folders; empty where nothing does."""
    above, slash, start = text.rpartition("/")
    if not slash or text in (".", "..", "~"):
        above, slash, start = text, "/", ""
    try:
        folder = expanded(above + slash)
        found = _entries(folder, start.lower(), hidden=start.startswith("."))
    except (OSError, ValueError):
        return []
    rows = [_row(entry, above + slash) for entry in found]
    kept = [row for row in rows if row is not None]
    kept.sort(key=lambda row: (row.kind == "folder", row.name.casefold()))
    return kept[:SHOWN_MAX]


def _entries(folder: Path, start: str, *, hidden: bool) -> list[os.DirEntry[str]]:
    found = []
    with os.scandir(folder) as scanned:
        for count, entry in enumerate(scanned):
            if count >= ENTRIES_MAX:
                break
            name = entry.name
            if name.lower().startswith(start) and (hidden or not name.startswith(".")):
                found.append(entry)
    return found


def _row(entry: os.DirEntry[str], above: str) -> FoundPath | None:
    path = above + entry.name
    try:
        if entry.is_dir():
            if os.path.isfile(os.path.join(entry.path, "config.json")):
                return FoundPath(path=path, name=entry.name, kind="model")
            return FoundPath(path=f"{path}/", name=f"{entry.name}/", kind="folder")
        if entry.name.lower().endswith(".gguf") and entry.is_file():
            size = entry.stat().st_size
            return FoundPath(path=path, name=entry.name, kind="gguf", size_bytes=size)
    except OSError:
        return None
    return None
