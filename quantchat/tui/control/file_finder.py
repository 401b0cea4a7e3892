"""Text files that a fragment of a path may mean, best first.

Walks below the working folder, or below the folder that the fragment names. Bounded in entries and
time; blocks, so it belongs in a thread.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from quantchat.paths import expanded
from quantchat.tui.control.attachments import FILE_BYTES, SNIFF_BYTES, is_binary

WALK_ENTRIES = 20_000
WALK_S = 0.4
KEPT_S = 10.0
"""A walk is used again for so long."""
SHOWN = 40
SKIPPED = frozenset({".git", "node_modules", "__pycache__", "site-packages"})
BINARY_WORDS = (
    "7z a avi bin bmp bz2 class db dll dylib exe gguf gif gz ico jar jpeg jpg mkv mov mp3 mp4 npy"
    " npz o ogg onnx pdf png pt pth pyc pyd rar safetensors so sqlite tar tif tiff ttf wav webm"
    " webp whl woff woff2 xz zip zst"
)
BINARY = frozenset(f".{word}" for word in BINARY_WORDS.split(" "))


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file, or a folder to look into."""

    path: str
    """As it is written after the @; a folder ends with a slash."""
    size_bytes: int


class FileFinder:
    """Remembers the last walk."""

    def __init__(self) -> None:
        self._walked: tuple[Path, bool, float, list[str]] | None = None

    def find(self, fragment: str, folder: Path) -> list[FoundFile]:
        """Files whose path has the fragment's characters in order."""
        above, slash, rest = fragment.rpartition("/")
        above += slash
        if fragment == "~":
            above, rest = "~/", ""
        base = (folder / expanded(above)) if above else folder
        hidden = rest.startswith(".")
        names = self._names(base, hidden)
        if not rest:
            ranked = sorted(names, key=lambda name: (name.rstrip("/").count("/"), name.lower()))
        else:
            wanted = rest.lower()
            scored = [(score, name) for name in names if (score := rank(wanted, name)) is not None]
            ranked = [name for _, name in sorted(scored)]
        return self._usable(base, above, ranked)

    def _names(self, base: Path, hidden: bool) -> list[str]:
        walked, now_s = self._walked, time.monotonic()
        if walked is not None and walked[:2] == (base, hidden) and now_s - walked[2] < KEPT_S:
            return walked[3]
        names = walk(base, hidden=hidden)
        self._walked = (base, hidden, now_s, names)
        return names

    def _usable(self, base: Path, above: str, names: list[str]) -> list[FoundFile]:
        """The first that are text of a size that can be sent."""
        found: list[FoundFile] = []
        for name in names:
            if len(found) >= SHOWN:
                break
            if name.endswith("/"):
                found.append(FoundFile(above + name, 0))
                continue
            size_bytes = _text_bytes(base / name)
            if size_bytes is not None:
                found.append(FoundFile(above + name, size_bytes))
        return found


def walk(base: Path, *, hidden: bool) -> list[str]:
    """Paths of files below a folder, and of the folders right in it, nearest first."""
    names: list[str] = []
    folders = [""]
    deadline_s = time.monotonic() + WALK_S
    while folders and len(names) < WALK_ENTRIES and time.monotonic() < deadline_s:
        deeper: list[str] = []
        for folder in folders:
            if len(names) >= WALK_ENTRIES or time.monotonic() > deadline_s:
                break
            try:
                with os.scandir(base / folder) as entries:
                    for entry in entries:
                        name = entry.name
                        if name in SKIPPED or not name.isprintable():
                            continue
                        if name.startswith(".") and not (hidden and not folder):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            deeper.append(f"{folder}{name}/")
                            if not folder:
                                names.append(f"{name}/")
                        elif os.path.splitext(name)[1].lower() not in BINARY:
                            names.append(f"{folder}{name}")
            except OSError:
                continue
        folders = sorted(deeper)
    return names


def rank(wanted: str, path: str) -> tuple[int, int, str] | None:
    """How well a path fits, smaller is better; None where it does not."""
    low = path.lower()
    last = low.rstrip("/").rpartition("/")[2]
    if last.startswith(wanted):
        fit = 0
    elif wanted in last:
        fit = 1
    elif wanted in low:
        fit = 2
    elif _in_order(wanted, last):
        fit = 3
    elif _in_order(wanted, low):
        fit = 4
    else:
        return None
    return fit, len(path), path


def _in_order(wanted: str, text: str) -> bool:
    letters = iter(text)
    return all(letter in letters for letter in wanted)


def _text_bytes(path: Path) -> int | None:
    """The size of a file that can be sent, else None."""
    try:
        facts = path.stat()
        if not path.is_file() or facts.st_size > FILE_BYTES:
            return None
        with path.open("rb") as file:
            return None if is_binary(file.read(SNIFF_BYTES)) else facts.st_size
    except OSError:
        return None
