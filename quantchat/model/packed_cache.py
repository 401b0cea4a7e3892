"""Packed weights kept on disk, so that the second start and the second switch only read.

One safetensors file per (model, scheme, group size, calibration, layout of the ops, format
version): weights as the ops hold them, norms and embedding. Streamed beside its place and renamed,
so that a killed process leaves nothing that could be taken for whole. The oldest files go first.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from quantchat.checkpoints.safetensors_header import LENGTH_BYTES, MAX_HEADER_BYTES
from quantchat.errors import CheckpointError
from quantchat.model.packed_file import PackedFile
from quantchat.model.packed_name import packed_file, packed_stem
from quantchat.model.packed_parts import Index, PartEntry
from quantchat.ops.linear import LinearForm

KEEP_FILES = 48
"""Every scheme of a model on two devices; the newest KEEP_ALWAYS whatever they take, the others
while all together take no more than KEEP_BYTES."""
KEEP_ALWAYS = 8
KEEP_BYTES = 64 * 2**30
LEAVE_FREE_BYTES = 2 * 2**30
"""Nothing is written that would leave the disk with less."""
HEADER_BYTES = 1 << 20
"""With the 8 bytes of its length, the header takes a multiple of this."""
LINEAR_BYTES = 1 << 11
"""Of the header for each linear; most take a quarter."""
ALIGNMENT = 256
"""Of tensors in the file and so in memory: a card's widest loads, a CPU's cache lines."""
PADDING = "padding."
DRAFT_LIFE_S = 24 * 3600
"""After this a draft belongs to a process that was killed."""
METADATA = "quantchat"
DTYPES = {
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
}

logger = logging.getLogger(__name__)


class PackedCache:
    """The packed files of one model under one scheme, one for each layout."""

    def __init__(
        self, folder: Path, identity: str, scheme: str, group_size: int, calibration: str = ""
    ) -> None:
        """`calibration`: key of the settings of a calibrated scheme."""
        self._folder = folder
        self._stem = packed_stem(identity, scheme, group_size, calibration)

    def path(self, layout: str) -> Path:
        """Where the file of a layout lies, or would."""
        return self._folder / packed_file(self._stem, layout)

    def open(self, layout: str) -> PackedFile | None:
        """A whole file, or None where there is none; a damaged one is removed."""
        path = self.path(layout)
        if not path.is_file():
            return None
        try:
            file = PackedFile(path, METADATA)
        except CheckpointError as error:
            self.drop(layout, error)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return file

    def drop(self, layout: str, why: Exception) -> None:
        """Remove a file that cannot be used."""
        path = self.path(layout)
        logger.warning("removing the packed file %s: %s", path.name, why)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

    def writer(self, layout: str, bytes_expected: int, *, linears: int = 0) -> PackedWriter | None:
        """A writer for a new file of so many linears, or None where the disk has no room for it."""
        blocks = min(-(-linears * LINEAR_BYTES // HEADER_BYTES), MAX_HEADER_BYTES // HEADER_BYTES)
        try:
            if bytes_expected + LEAVE_FREE_BYTES > shutil.disk_usage(self._folder).free:
                return None
            return PackedWriter(self.path(layout), max(1, blocks) * HEADER_BYTES - LENGTH_BYTES)
        except OSError as error:
            logger.warning("packed weights are not kept: %s", error)
            return None


class PackedWriter:
    """Streams parts into a draft; the header goes into room left for it at the front."""

    def __init__(self, path: Path, header_bytes: int) -> None:
        self._path = path
        self._header_bytes = header_bytes
        self._draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        self._header: dict[str, Any] = {}
        self._index = Index()
        self._position = 0
        self._file: BinaryIO | None = self._draft.open("wb")
        self._file.seek(LENGTH_BYTES + header_bytes)

    def add_linear(self, name: str, parts: list[LinearForm]) -> None:
        """Append a linear of our fused name; a full disk ends the writing, never the load."""
        entries = tuple(self._part(f"{name}.{i}", part, {}) for i, part in enumerate(parts))
        self._index.linears[name] = entries

    def add_embedding(self, form: LinearForm, head: LinearForm) -> None:
        """Append the embedding; tensors that are the head's own are not written twice."""
        known = {
            tensor.data_ptr(): self._index.linears["head"][0].tensors[key]
            for key, tensor in head.tensors.items()
        }
        shared = {
            key: known[tensor.data_ptr()]
            for key, tensor in form.tensors.items()
            if any(_same(tensor, other) for other in head.tensors.values())
        }
        self._index.embedding = self._part("embed", form, shared)

    def add_vector(self, name: str, values: torch.Tensor) -> None:
        """Append a norm weight."""
        self._index.vectors[name] = name
        self._append(name, values)

    def add_notes(self, notes: tuple[str, ...]) -> None:
        """Keep what is told of the parts, for those who read them."""
        self._index.notes = notes

    def commit(self) -> None:
        """Finish the file and put it in place; drops the oldest beyond KEEP_FILES."""
        if self._file is None:
            return
        table = {"__metadata__": {METADATA: self._index.to_text()}, **self._header}
        header = json.dumps(table).encode().ljust(self._header_bytes)
        if len(header) != self._header_bytes:
            logger.warning("packed weights are not kept: the header needs %d bytes", len(header))
            self.discard()
            return
        try:
            self._file.seek(0)
            self._file.write(self._header_bytes.to_bytes(LENGTH_BYTES, "little") + header)
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
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        with contextlib.suppress(OSError):
            self._draft.unlink(missing_ok=True)

    def _part(self, prefix: str, part: LinearForm, known: Mapping[str, str]) -> PartEntry:
        names = {key: known.get(key, f"{prefix}.{key}") for key in part.tensors}
        for key, tensor in part.tensors.items():
            if key not in known:
                self._append(names[key], tensor)
        return PartEntry(
            form=part.form, shape=part.shape, group_size=part.group_size, tensors=names
        )

    def _append(self, name: str, tensor: torch.Tensor) -> None:
        if self._file is None:
            return
        gap = -self._position % ALIGNMENT
        if gap:
            self._describe(f"{PADDING}{self._position}", "U8", [gap], gap)
        data = tensor.detach().cpu().contiguous()
        try:
            self._file.write(bytes(gap))
            self._describe(name, DTYPES[data.dtype], list(data.shape), data.nbytes)
            self._file.write(data.flatten().view(torch.uint8).numpy().data)
        except OSError as error:
            logger.warning("packed weights are not kept: %s", error)
            self.discard()

    def _describe(self, name: str, dtype: str, shape: list[int], nbytes: int) -> None:
        end = self._position + nbytes
        offsets = [self._position, end]
        self._header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        self._position = end

    def _sweep(self) -> None:
        with contextlib.suppress(OSError):
            files = [(path, path.stat()) for path in self._path.parent.glob("*.safetensors")]
            files.sort(key=lambda file: file[1].st_mtime_ns, reverse=True)
            total = 0
            for place, (path, status) in enumerate(files):
                total += status.st_size
                if place >= KEEP_FILES or (place >= KEEP_ALWAYS and total > KEEP_BYTES):
                    path.unlink(missing_ok=True)
            for draft in self._path.parent.glob(".*.safetensors.*"):
                if draft.stat().st_mtime < time.time() - DRAFT_LIFE_S:
                    draft.unlink(missing_ok=True)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are one in memory."""
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.dtype == b.dtype
