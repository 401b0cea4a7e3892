"""A packed file, read: its header checked, its tensors on a device.

On a card bytes arrive in pieces of memory laid out as the file is, one but for what is to be apart;
tensors are views of them. On the CPU they are views of the mapped file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.mapping import FileMapping
from quantchat.checkpoints.safetensors_header import read_header, values
from quantchat.errors import CheckpointError
from quantchat.model.packed_parts import Index
from quantchat.model.upload import Range, upload


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
        self.nbytes = _range_of(path, list(header.tensors.values())).nbytes

    def read(
        self,
        device: torch.device,
        *,
        on_bytes: Callable[[int], None],
        cancelled: Callable[[], bool],
        apart: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, torch.Tensor]:
        """All tensors by name; see `upload` for what is raised. They must not be written to.

        `apart`: linears, and what they are let go of with: a card holds no others in their memory.
        """
        on_card = device.type != "cpu"
        runs = self._runs(apart if on_card else {})
        ranges = [_range_of(self.path, run) for run in runs]
        if on_card:
            pieces = upload(ranges, device, on_bytes=on_bytes, cancelled=cancelled)
        else:
            pieces = [self._mapping.view(each.offset, each.nbytes) for each in ranges]
        tensors = {}
        for run, (_, start, _), raw in zip(runs, ranges, pieces, strict=True):
            for entry in run:
                first = entry.offset - start
                tensors[entry.name] = values(entry, raw[first : first + entry.nbytes])
        return tensors

    def _runs(self, apart: Mapping[str, str]) -> list[list[TensorEntry]]:
        """Tensors as they follow each other in the file, those of one owner in one list."""
        owners = {
            tensor: apart.get(linear, "")
            for linear, parts in self.index.linears.items()
            for part in parts
            for tensor in part.tensors.values()
        }
        runs: list[list[TensorEntry]] = []
        last = None
        for entry in sorted(self._entries.values(), key=lambda entry: entry.offset):
            # Padding is what is before it, and so is what follows the head.
            owner = owners.get(entry.name, last or "")
            if owner != last:
                runs.append([])
                last = owner
            runs[-1].append(entry)
        return runs

    def close(self) -> None:
        """Let go of the file; tensors read before stay valid."""
        self._mapping.close()


def _range_of(path: Path, entries: list[TensorEntry]) -> Range:
    """From the first byte of the first tensor to the last one of the last."""
    start = min((entry.offset for entry in entries), default=0)
    end = max((entry.offset + entry.nbytes for entry in entries), default=start)
    return Range(path, start, end - start)
