"""A model's open files, and the named byte ranges that a container has found in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.files import Bytes, Files

if TYPE_CHECKING:
    import torch


class OpenFiles:
    """What containers share of `Checkpoint`: the files' life and their tensors' bytes."""

    tensors: Mapping[str, TensorEntry]

    def __init__(self, files: Files) -> None:
        self.files = files
        self._mappings: dict[Path, Bytes] = {}

    def _bytes(self, path: Path) -> Bytes:
        """The file, opened the first time; raises CheckpointError."""
        if path not in self._mappings:
            self._mappings[path] = self.files.open(path)
        return self._mappings[path]

    def raw(self, name: str) -> torch.Tensor:
        """The tensor's bytes as stored: uint8 [nbytes], no copy."""
        return self._range(self.tensors[name])

    def _range(self, entry: TensorEntry) -> torch.Tensor:
        return self._mappings[entry.file].view(entry.offset, entry.nbytes)

    def add_views(self, views: Mapping[str, TensorEntry]) -> None:
        """Names for parts of tensors: whole rows of them, inside the tensor's own bytes."""
        self.tensors = MappingProxyType({**self.tensors, **views})

    def close(self) -> None:
        """Let go of all files; views made before stay valid."""
        for mapping in self._mappings.values():
            mapping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
