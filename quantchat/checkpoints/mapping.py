"""A model file mapped read-only into memory.

Owns the mapping's life. Knows nothing of containers.
"""

from __future__ import annotations

import mmap
import os
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from quantchat.errors import CheckpointError

if TYPE_CHECKING:
    import torch


class FileMapping:
    """The bytes of one file, without reading them.

    The mapping holds its own handle, so the file may be renamed or deleted meanwhile. Tensors made
    from it keep it alive after `close`.
    """

    __slots__ = ("_bytes", "_mmap", "modified_ns", "path", "size")

    def __init__(self, path: Path) -> None:
        """Raises CheckpointError where the file is missing, empty, or no regular file."""
        self.path = path
        try:
            # Opening a pipe would wait for its writer.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise CheckpointError(path, "is not a regular file")
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size == 0:
                    raise CheckpointError(path, "the file is empty", hint="download it again")
                self._mmap: mmap.mmap | None = mmap.mmap(
                    file.fileno(), status.st_size, access=mmap.ACCESS_READ
                )
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise CheckpointError(path, f"cannot be opened: {reason}") from error
        self.size = status.st_size
        self.modified_ns = status.st_mtime_ns
        self._bytes: torch.Tensor | None = None

    def buffer(self) -> memoryview:
        """All bytes, read-only."""
        assert self._mmap is not None, "closed"
        return memoryview(self._mmap)

    def view(self, offset: int, nbytes: int) -> torch.Tensor:
        """Bytes as uint8 [nbytes], no copy."""
        import torch

        assert 0 <= offset <= offset + nbytes <= self.size
        if self._bytes is None:
            assert self._mmap is not None, "closed"
            with warnings.catch_warnings():
                # torch has no read-only tensors and says so
                warnings.filterwarnings("ignore", message=".*not writable.*")
                self._bytes = torch.frombuffer(self._mmap, dtype=torch.uint8)
        return self._bytes[offset : offset + nbytes]

    def close(self) -> None:
        """Let go; the mapping itself ends with the last tensor made from it."""
        self._bytes = None
        self._mmap = None
