"""A packed file, read: its header checked, its tensors on a device.

On a card all bytes arrive in one piece of memory whose layout is the file's; tensors are views of
it. On the CPU they are views of the mapped file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from quantchat.checkpoints.mapping import FileMapping
from quantchat.checkpoints.safetensors_header import read_header, values
from quantchat.errors import CheckpointError
from quantchat.model.packed_parts import Index
from quantchat.model.upload import upload


class PackedFile:
    """An open packed file."""

    def __init__(self, path: Path, key: str) -> None:
        """`key`: where the metadata holds the index. Raises CheckpointError for any damage."""
        self.path = path
        mapping = FileMapping(path)
        try:
            header = read_header(mapping)
            try:
                self.index = Index.from_text(header.metadata[key])
            except (ValueError, KeyError, RecursionError) as error:
                raise CheckpointError(path, f"has no index: {error}") from error
        except BaseException:
            mapping.close()
            raise
        self._mapping = mapping
        self._entries = header.tensors
        self._start = min((entry.offset for entry in header.tensors.values()), default=0)
        ends = (entry.offset + entry.nbytes for entry in header.tensors.values())
        self.nbytes = max(ends, default=0) - self._start

    def read(
        self,
        device: torch.device,
        *,
        on_bytes: Callable[[int], None],
        cancelled: Callable[[], bool],
    ) -> dict[str, torch.Tensor]:
        """All tensors by name; see `upload` for what is raised. They must not be written to."""
        if device.type == "cpu":
            raw = self._mapping.view(self._start, self.nbytes)
        else:
            raw = upload(
                self.path,
                self._start,
                self.nbytes,
                device,
                on_bytes=on_bytes,
                cancelled=cancelled,
            )
        tensors = {}
        for name, entry in self._entries.items():
            first = entry.offset - self._start
            tensors[name] = values(entry, raw[first : first + entry.nbytes])
        return tensors

    def close(self) -> None:
        """Let go of the file; tensors read before stay valid."""
        self._mapping.close()
