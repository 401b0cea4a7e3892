"""Safetensors files written tensor by tensor, a new file before one grows too large.

Room for each file's header is left at its front and padded with spaces, as the format allows, so
that no more than one tensor is in memory at a time.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch

from quantchat.model.packed_cache import DTYPES

SHARD_BYTES = 4 << 30
HEADER_BYTES = (1 << 20) - 8
"""With the 8 bytes of its length, the data begins at 1 MiB."""
DESCRIPTION_BYTES = 256
"""More than one tensor's entry takes, beside its name."""
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class ShardWriter:
    """Writes into a folder of its own; `finish` names the files. OSError where the disk fails."""

    def __init__(self, folder: Path, metadata: dict[str, str]) -> None:
        self._folder = folder
        self._metadata = metadata
        self._files: list[Path] = []
        self._shard_of: dict[str, int] = {}
        self._file: BinaryIO | None = None
        self._header: dict[str, Any] = {}
        self._header_bytes = 0
        self._position = 0
        self.nbytes = 0
        """Of all tensors."""

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Append a tensor."""
        assert name not in self._shard_of, name
        data = tensor.detach().cpu().contiguous()
        described = len(name.encode()) + DESCRIPTION_BYTES
        full = self._position + data.nbytes > SHARD_BYTES - HEADER_BYTES - 8
        if self._file is None or (self._header and full) or self._header_bytes < described:
            self._open()
        assert self._file is not None
        self._header_bytes -= described
        end = self._position + data.nbytes
        self._header[name] = {
            "dtype": DTYPES[data.dtype],
            "shape": list(data.shape),
            "data_offsets": [self._position, end],
        }
        self._file.write(data.flatten().view(torch.uint8).numpy().data)
        self._position = end
        self._shard_of[name] = len(self._files) - 1
        self.nbytes += data.nbytes

    def finish(self) -> list[Path]:
        """Close the last file, name them all, write the index where there are several."""
        self._close()
        count = len(self._files)
        names = [
            SINGLE if count == 1 else f"model-{i + 1:05d}-of-{count:05d}.safetensors"
            for i in range(count)
        ]
        for path, name in zip(self._files, names, strict=True):
            path.rename(self._folder / name)
        if count > 1:
            table = {
                "metadata": {"total_size": self.nbytes},
                "weight_map": {name: names[shard] for name, shard in self._shard_of.items()},
            }
            (self._folder / INDEX).write_text(json.dumps(table), encoding="utf-8")
        return [self._folder / name for name in names]

    def close(self) -> None:
        """Let go of the open file, whatever is in it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        self._close()
        path = self._folder / f".shard-{len(self._files):05d}"
        self._file = path.open("wb")
        self._file.seek(8 + HEADER_BYTES)
        self._files.append(path)
        self._header = {}
        taken = len(json.dumps({"__metadata__": self._metadata}))
        self._header_bytes = HEADER_BYTES - taken - DESCRIPTION_BYTES
        self._position = 0

    def _close(self) -> None:
        if self._file is None:
            return
        header = json.dumps({"__metadata__": self._metadata, **self._header}).encode()
        assert len(header) <= HEADER_BYTES
        self._file.seek(0)
        self._file.write(HEADER_BYTES.to_bytes(8, "little") + header.ljust(HEADER_BYTES))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()
