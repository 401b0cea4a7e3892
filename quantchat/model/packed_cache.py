"""Rounded weights kept on disk, so that the second start and the second switch skip rounding.

One safetensors file per (model, scheme, group size, format version), streamed beside its place
and renamed, so that a killed process leaves nothing that could be taken for whole.
The oldest files go first.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from quantchat.errors import CheckpointError
from quantchat.model.weights import Matrix, matrix_names
from quantchat.quant.tensor import Int4GroupWeight, Int8ChannelWeight, StoredWeight
from quantchat.spec import DecoderSpec

VERSION = 2
"""Goes up when rounding or layout changes, so that old files are not read."""
KEEP_FILES = 8
LEAVE_FREE_BYTES = 2 * 2**30
"""Nothing is written that would leave the disk with less."""
HEADER_BYTES = (1 << 20) - 8
"""With the 8 bytes of its length, the data begins at 1 MiB."""
ALIGNMENT = 64
"""torch's packed CPU ops crash on codes that do not begin at a cache line."""
PADDING = "padding."
DTYPES = {torch.uint8: "U8", torch.int8: "I8", torch.float16: "F16", torch.float32: "F32"}

logger = logging.getLogger(__name__)


class PackedCache:
    """The packed file of one model under one scheme."""

    def __init__(self, folder: Path, identity: str, scheme: str, group_size: int) -> None:
        stem = re.sub(r"[^A-Za-z0-9]", "", identity)
        self.path = folder / f"{stem}-{scheme}-g{group_size}-v{VERSION}.safetensors"
        self.group_size = group_size

    def open(self, device: torch.device) -> PackedReader | None:
        """The reader of a whole file, or None where there is none; a damaged one is removed."""
        from safetensors import SafetensorError, safe_open

        if not self.path.is_file():
            return None
        try:
            file = safe_open(self.path, framework="pt", device=str(device))
        except (SafetensorError, OSError) as error:
            logger.warning("removing the packed file %s: %s", self.path.name, error)
            self.path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(self.path)
        return PackedReader(self.path, file, self.group_size)

    def writer(self, bytes_expected: int) -> PackedWriter | None:
        """A writer for a new file, or None where the disk has no room for it."""
        if bytes_expected + LEAVE_FREE_BYTES > shutil.disk_usage(self.path.parent).free:
            return None
        return PackedWriter(self.path)


class PackedReader:
    """Matrices of a packed file."""

    def __init__(self, path: Path, file: Any, group_size: int) -> None:
        self._path = path
        self._file = file
        self._names = frozenset(file.keys())
        self._group_size = group_size

    def matrices(
        self, spec: DecoderSpec, on_part: Callable[[str], None]
    ) -> Iterator[tuple[str, Matrix]]:
        """Every linear of the decoder, then the head."""
        for name in [*(fused for fused, _, _ in matrix_names(spec)), "head"]:
            on_part(name)
            yield name, self._matrix(name)

    def _matrix(self, name: str) -> Matrix:
        bias = self._tensor(f"{name}.bias") if f"{name}.bias" in self._names else None
        parts: list[StoredWeight] = []
        while f"{name}.{len(parts)}.scale" in self._names:
            parts.append(self._weight(f"{name}.{len(parts)}"))
        if not parts:
            raise CheckpointError(self._path, "is missing", tensor=name, hint="delete the file")
        return Matrix(tuple(parts), bias)

    def _weight(self, name: str) -> StoredWeight:
        scale = self._tensor(f"{name}.scale")
        if f"{name}.codes" in self._names:
            return Int8ChannelWeight(self._tensor(f"{name}.codes"), scale)
        return Int4GroupWeight(
            self._tensor(f"{name}.packed"), scale, self._tensor(f"{name}.offset"), self._group_size
        )

    def _tensor(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor


class PackedWriter:
    """Streams matrices into a draft; the header goes into room left for it at the front."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        self._header: dict[str, Any] = {}
        self._position = 0
        self._file: BinaryIO | None = self._draft.open("wb")
        self._file.seek(8 + HEADER_BYTES)

    def add(self, name: str, matrix: Matrix) -> None:
        """Append a matrix; a full disk ends the writing, never the load."""
        parts = {
            f"{name}.{index}.{key}": tensor
            for index, part in enumerate(matrix.parts)
            for key, tensor in part.tensors().items()
        }
        if matrix.bias is not None:
            parts[f"{name}.bias"] = matrix.bias
        try:
            for key, tensor in parts.items():
                self._append(key, tensor)
        except OSError as error:
            logger.warning("packed weights are not kept: %s", error)
            self.discard()

    def _append(self, name: str, tensor: torch.Tensor) -> None:
        if self._file is None:
            return
        misaligned = self._position % ALIGNMENT
        if misaligned and not name.startswith(PADDING):
            zeros = torch.zeros(ALIGNMENT - misaligned, dtype=torch.uint8)
            self._append(f"{PADDING}{self._position}", zeros)
        data = tensor.cpu().contiguous()
        end = self._position + data.nbytes
        self._header[name] = {
            "dtype": DTYPES[data.dtype],
            "shape": list(data.shape),
            "data_offsets": [self._position, end],
        }
        self._file.write(data.view(torch.uint8).flatten().numpy().tobytes())
        self._position = end

    def commit(self) -> None:
        """Finish the file and put it in place; drops the oldest beyond KEEP_FILES."""
        if self._file is None:
            return
        header = json.dumps(self._header).encode().ljust(HEADER_BYTES)
        assert len(header) == HEADER_BYTES
        try:
            self._file.seek(0)
            self._file.write(HEADER_BYTES.to_bytes(8, "little") + header)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            self._draft.replace(self._path)
        except OSError as error:
            logger.warning("packed weights are not kept: %s", error)
            self.discard()
            return
        self._sweep()

    def discard(self) -> None:
        """Remove the draft, if there still is one."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._draft.unlink(missing_ok=True)

    def _sweep(self) -> None:
        files = list(self._path.parent.glob("*.safetensors"))
        files.sort(key=lambda path: path.stat().st_mtime)
        for old in files[:-KEEP_FILES]:
            old.unlink(missing_ok=True)
