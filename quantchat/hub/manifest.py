"""The record beside every downloaded model: what it is, whence it came, which files make it whole.

Owns the manifest's format. A folder without one was not made by quantchat.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

Container: TypeAlias = Literal["gguf", "safetensors"]

MANIFEST_NAME = "quantchat-model.json"
_FORMAT = 1
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One verified file of a model."""

    name: str
    size_bytes: int
    digest: str
    """`sha256:...`, or `git:...` for small text files that the hub keeps in git."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A finished download."""

    name: str
    repo: str
    file: str | None
    revision: str
    source: str
    container: Container
    files: tuple[StoredFile, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)

    def is_complete(self, folder: Path) -> bool:
        """Whether every file is there with its verified size."""
        try:
            return bool(self.files) and all(
                (folder / file.name).stat().st_size == file.size_bytes for file in self.files
            )
        except OSError:
            return False

    def model_path(self, folder: Path) -> Path:
        """What a loader opens: the GGUF file, or the folder."""
        return folder / self.files[0].name if self.container == "gguf" else folder


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the record into a folder that nobody else sees yet."""
    path = folder / MANIFEST_NAME
    with path.open("w", encoding="utf-8") as out:
        json.dump({"format": _FORMAT, **asdict(manifest)}, out, indent=1)
        out.flush()
        os.fsync(out.fileno())


def read_manifest(folder: Path) -> Manifest | None:
    """The record of a folder; None when there is none or it cannot be read."""
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return _parse(data) if isinstance(data, dict) and data.get("format") == _FORMAT else None


def _parse(data: dict[str, Any]) -> Manifest | None:
    texts = [data.get(key) for key in ("name", "repo", "revision", "source")]
    file, container, files = data.get("file"), data.get("container"), data.get("files")
    if not all(isinstance(text, str) for text in texts) or not isinstance(files, list):
        return None
    if container not in ("gguf", "safetensors") or not (file is None or isinstance(file, str)):
        return None
    stored = []
    for item in files:
        if not isinstance(item, dict):
            return None
        name, size, digest = item.get("name"), item.get("size_bytes"), item.get("digest")
        if not isinstance(name, str) or not isinstance(size, int) or not isinstance(digest, str):
            return None
        if Path(name).name != name:
            return None
        stored.append(StoredFile(name=name, size_bytes=size, digest=digest))
    return Manifest(
        name=data["name"],
        repo=data["repo"],
        file=file,
        revision=data["revision"],
        source=data["source"],
        container=container,
        files=tuple(stored),
    )
