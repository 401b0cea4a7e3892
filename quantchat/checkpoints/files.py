"""Where the files of a checkpoint lie: on disk, or somewhere that only their beginnings come from.

Owns the protocols and the disk. What a file means belongs to the containers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from quantchat.checkpoints.json_file import MAX_JSON_BYTES, read_object
from quantchat.checkpoints.mapping import FileMapping

if TYPE_CHECKING:
    import torch


class Bytes(Protocol):
    """One open file."""

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> int:
        """Of the whole file."""

    @property
    def modified_ns(self) -> int: ...

    def buffer(self) -> memoryview:
        """Its bytes; at least the header where they are not all here."""

    def view(self, offset: int, nbytes: int) -> torch.Tensor:
        """Bytes as uint8 [nbytes]."""

    def close(self) -> None:
        """Let go."""


class Files(Protocol):
    """A folder, or several, by path."""

    def exists(self, path: Path) -> bool:
        """Whether there is a file of that path."""

    def names(self, folder: Path) -> list[str]:
        """Names of the files in a folder, sorted."""

    def open(self, path: Path) -> Bytes:
        """Open a file of tensors; raises CheckpointError."""

    def read_object(
        self, path: Path, *, max_bytes: int = MAX_JSON_BYTES
    ) -> tuple[dict[str, Any], bytes]:
        """The JSON object in a small file, and its bytes; raises CheckpointError."""


class Disk:
    """Implements `Files`: what paths say."""

    def exists(self, path: Path) -> bool:
        """See Files.exists."""
        return path.is_file()

    def names(self, folder: Path) -> list[str]:
        """See Files.names."""
        return sorted(entry.name for entry in folder.iterdir())

    def open(self, path: Path) -> FileMapping:
        """See Files.open."""
        return FileMapping(path)

    def read_object(
        self, path: Path, *, max_bytes: int = MAX_JSON_BYTES
    ) -> tuple[dict[str, Any], bytes]:
        """See Files.read_object."""
        return read_object(path, max_bytes=max_bytes)


DISK = Disk()
