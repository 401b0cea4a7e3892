"""GGUF files, split ones too: metadata and named byte ranges, checked before use.

Owns the tensor table and the files' life. Value parsing is in `gguf_metadata`, block arithmetic in
`ggml`. What the metadata means (family, tokenizer, rope) belongs to the loader.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from quantchat.checkpoints.base import Fetch, TensorEntry
from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.files import DISK, Files
from quantchat.checkpoints.ggml.types import TYPES, TYPES_BY_ID, GgmlType
from quantchat.checkpoints.gguf_metadata import CUT_OFF_HINT, Cursor, read_metadata
from quantchat.checkpoints.open_files import OpenFiles
from quantchat.checkpoints.ranges import check_overlaps, check_range
from quantchat.checkpoints.room import FREE_BYTES, room_for
from quantchat.errors import CheckpointError, UnsupportedModelError
from quantchat.gguf_names import split_parts

if TYPE_CHECKING:
    import torch

MAGIC = b"GGUF"
SPLIT_COUNT = "split.count"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_METADATA_KEYS = 1 << 16
MAX_TENSORS = 1 << 20
MAX_DIMENSIONS = 4
MAX_NAME_BYTES = 256
"""ggml itself stops at 64."""
MIN_KEY_BYTES = 13
"""Length, value type and one byte of value."""
MIN_TENSOR_BYTES = 24
"""Name length, number of dimensions, type and offset."""
ENTRY_BYTES = 1024
"""What a tensor's description costs in memory at most."""


@dataclass(frozen=True, slots=True)
class Head:
    """What one file says of itself."""

    version: int
    metadata: Facts
    tensors: dict[str, TensorEntry]
    sha256: str
    table_start: int
    """First byte of the tensor table."""


class GgufFile(OpenFiles):
    """An open GGUF model (little endian, version 2 or 3), in one file or in all parts of a split
    one. See `Checkpoint` for how views live.
    """

    def __init__(self, path: Path, files: Files = DISK) -> None:
        """Raises CheckpointError for damage, UnsupportedModelError for what we do not read.

        `path`: the file, or any part of a split model; the other parts lie beside it.
        """
        super().__init__(files)
        self._room = FREE_BYTES
        try:
            self.path, heads = self._open(path)
        except BaseException:
            self.close()
            raise
        self.version, self.metadata = heads[0].version, heads[0].metadata
        self.tensors = MappingProxyType(_joined(heads))
        self._header_sha256 = "|".join(head.sha256 for head in heads)

    def _open(self, path: Path) -> tuple[Path, list[Head]]:
        """Path and head of the first file, then the heads of all others."""
        beside = (path.with_name(name) for name in split_parts(path.name))
        there = [part for part in beside if part != path and self.files.exists(part)]
        self._room = room_for(sum(self._bytes(part).size for part in (path, *there)))
        head = self._read(path)
        count = head.metadata.integer(SPLIT_COUNT, default=1)
        if count <= 1:
            return path, [head]
        names = split_parts(path.name)
        if len(names) != count:
            raise CheckpointError(
                path,
                f"is one of {count} parts of a model, which its name does not say",
                hint=f"it should end in -00001-of-{min(count, 99999):05d}.gguf",
            )
        paths = [path.with_name(name) for name in names]
        heads = []
        for number, part in enumerate(paths):
            if part != path and not self.files.exists(part):
                raise CheckpointError(
                    path,
                    f"is one of {count} parts of a model, and {part.name} is not beside it",
                    hint="put all parts into one folder",
                )
            heads.append(head if part == path else self._read(part))
            _check_part(part, heads[-1].metadata, number, count)
        told = heads[0].metadata.optional_integer("split.tensors.count")
        found = sum(len(each.tensors) for each in heads)
        if told is not None and told != found:
            raise CheckpointError(
                paths[0], f"says {told} tensors, its parts hold {found}", hint=CUT_OFF_HINT
            )
        return paths[0], heads

    def _read(self, path: Path) -> Head:
        mapping = self._bytes(path)
        with mapping.buffer() as buffer:
            cursor = Cursor(buffer, path, mapping.size, self._room)
            head = read_head(cursor)
        assert cursor.room is not None
        self._room = cursor.room
        return head

    @property
    def container(self) -> Literal["gguf"]:
        return "gguf"

    def dense(
        self,
        name: str,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        fetch: Fetch | None = None,
    ) -> torch.Tensor:
        """The tensor's values in torch shape, decoded on the device; None means float32."""
        import torch

        from quantchat.checkpoints.ggml.dequantize import dequantize

        entry = self.tensors[name]
        raw = self.raw(name).to(device) if fetch is None else fetch(entry)
        values = dequantize(raw, entry.dtype, dtype=torch.float32 if dtype is None else dtype)
        return values.reshape(entry.shape)

    def identity(self) -> str:
        """Hash of names, sizes, modification times and headers."""
        files = "|".join(
            f"{path.name}|{mapping.size}|{mapping.modified_ns}"
            for path, mapping in sorted(self._mappings.items())
        )
        facts = f"{files}|{self._header_sha256}"
        return hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _joined(heads: list[Head]) -> dict[str, TensorEntry]:
    """All files' tensors; raises CheckpointError for one that comes twice."""
    tensors: dict[str, TensorEntry] = {}
    for head in heads:
        for name, entry in head.tensors.items():
            if name in tensors:
                raise CheckpointError(
                    entry.file, f"is in {tensors[name].file.name} too", tensor=name
                )
            tensors[name] = entry
    return tensors


def _check_part(path: Path, metadata: Facts, number: int, count: int) -> None:
    """Raises CheckpointError where a file is not the part that its name says."""
    said = metadata.integer(SPLIT_COUNT, default=1), metadata.integer("split.no", default=0)
    if said != (count, number):
        raise CheckpointError(
            path,
            f"says that it is part {said[1] + 1} of {said[0]}",
            hint="the parts of two models are mixed, or a name was changed; download it again",
        )


def read_head(cursor: Cursor) -> Head:
    """Metadata and tensor table of a file; raises MoreNeeded where the cursor's bytes end in them."""
    version, tensor_count, key_count = read_counts(cursor)
    metadata = Facts(cursor.path, MappingProxyType(read_metadata(cursor, key_count)))
    table_start = cursor.position
    tensors = read_tensors(cursor, tensor_count, alignment_of(metadata))
    digest = hashlib.sha256(cursor.buffer[: cursor.position]).hexdigest()
    return Head(version, metadata, tensors, digest, table_start)


def read_counts(cursor: Cursor) -> tuple[int, int, int]:
    """Version, number of tensors, number of metadata keys."""
    path = cursor.path
    if bytes(cursor.buffer[:4]) != MAGIC:
        raise CheckpointError(path, "is not a GGUF file", hint="it does not start with GGUF")
    cursor.position = 4
    version = cursor.u32("the version")
    if version not in VERSIONS:
        if version & 0xFFFF == 0 and version != 0:
            raise UnsupportedModelError(path, "is a big-endian GGUF file")
        raise UnsupportedModelError(
            path, f"has GGUF version {version}, this reader knows 2 and 3", hint="convert it again"
        )
    tensors = cursor.u64("the number of tensors")
    keys = cursor.u64("the number of metadata keys")
    if tensors > MAX_TENSORS:
        raise CheckpointError(path, f"claims {tensors} tensors, at most {MAX_TENSORS} make sense")
    if keys > MAX_METADATA_KEYS:
        raise CheckpointError(
            path, f"claims {keys} metadata keys, at most {MAX_METADATA_KEYS} make sense"
        )
    cursor.need(1, keys * MIN_KEY_BYTES + tensors * MIN_TENSOR_BYTES, "the header")
    return version, tensors, keys


def alignment_of(metadata: Facts) -> int:
    """What the data and each tensor's offset are multiples of."""
    alignment = metadata.integer("general.alignment", default=DEFAULT_ALIGNMENT, minimum=1)
    if alignment & (alignment - 1):
        raise CheckpointError(
            metadata.path, f"general.alignment is {alignment}, a power of two expected"
        )
    return alignment


def read_tensors(cursor: Cursor, count: int, alignment: int) -> dict[str, TensorEntry]:
    """The tensor table; every range checked against the file and the other ranges."""
    described: dict[str, tuple[tuple[int, ...], GgmlType, int]] = {}
    for index in range(count):
        cursor.spend(ENTRY_BYTES, "the tensor table")
        name = cursor.text(f"name of tensor {index}", limit=MAX_NAME_BYTES)
        if name in described:
            raise CheckpointError(cursor.path, "comes twice", tensor=name)
        described[name] = _read_tensor(cursor, name)
    data_start = -(-cursor.position // alignment) * alignment
    entries = {}
    for name, (shape, kind, offset) in described.items():
        if offset % alignment:
            raise CheckpointError(
                cursor.path, f"offset {offset} is not a multiple of {alignment}", tensor=name
            )
        nbytes = math.prod(shape) // kind.block_elements * kind.block_bytes
        entry = TensorEntry(
            name=name,
            shape=shape,
            dtype=kind.name,
            offset=data_start + offset,
            nbytes=nbytes,
            file=cursor.path,
        )
        check_range(entry, cursor.size)
        entries[name] = entry
    check_overlaps(entries.values())
    return entries


def _read_tensor(cursor: Cursor, name: str) -> tuple[tuple[int, ...], GgmlType, int]:
    """Shape in torch order, type, and offset from the start of the data."""
    what = f"description of tensor {name!r}"
    dimensions = cursor.u32(what)
    if dimensions > MAX_DIMENSIONS:
        raise CheckpointError(
            cursor.path, f"claims {dimensions} dimensions, at most {MAX_DIMENSIONS}", tensor=name
        )
    sizes = [cursor.u64(what) for _ in range(dimensions)]
    if 0 in sizes:
        raise CheckpointError(cursor.path, "has a dimension of zero", tensor=name)
    type_id = cursor.u32(what)
    offset = cursor.u64(what)
    kind = TYPES_BY_ID.get(type_id)
    if kind is None or not kind.readable:
        named = f"unknown type {type_id}" if kind is None else f"type {kind.name}"
        readable = ", ".join(known.name for known in TYPES.values() if known.readable)
        raise UnsupportedModelError(
            cursor.path, f"{named} is not supported", tensor=name, hint=f"readable: {readable}"
        )
    row = sizes[0] if sizes else 1
    if row % kind.block_elements:
        raise CheckpointError(
            cursor.path,
            f"rows of {row} are no whole {kind.name} blocks of {kind.block_elements}",
            tensor=name,
            hint=CUT_OFF_HINT,
        )
    return tuple(reversed(sizes)), kind, offset
