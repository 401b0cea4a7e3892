"""One safetensors file: header checked before use, tensors as views.

Owns the header. Folders and shards are `safetensors`. Format: eight bytes of header length
(little endian), a JSON object of tensors, then the data that its offsets count from.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.files import Bytes
from quantchat.checkpoints.json_file import parse_object
from quantchat.checkpoints.ranges import check_overlaps, check_range
from quantchat.checkpoints.room import room_for
from quantchat.errors import CheckpointError, UnsupportedModelError

if TYPE_CHECKING:
    import torch

MAX_HEADER_BYTES = 32 << 20
MAX_DIMENSIONS = 16
MAX_NAME_CHARACTERS = 512
MAX_ELEMENTS = 1 << 48
LENGTH_BYTES = 8

DTYPES: MappingProxyType[str, tuple[str, int]] = MappingProxyType(
    {
        "BOOL": ("bool", 1),
        "U8": ("uint8", 1),
        "I8": ("int8", 1),
        "F8_E4M3": ("float8_e4m3fn", 1),
        "F8_E5M2": ("float8_e5m2", 1),
        "F8_E8M0": ("float8_e8m0fnu", 1),
        "U16": ("uint16", 2),
        "I16": ("int16", 2),
        "F16": ("float16", 2),
        "BF16": ("bfloat16", 2),
        "U32": ("uint32", 4),
        "I32": ("int32", 4),
        "F32": ("float32", 4),
        "U64": ("uint64", 8),
        "I64": ("int64", 8),
        "F64": ("float64", 8),
    }
)
"""Name in the header -> torch's name, bytes of an element."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What one file holds."""

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    """The free texts under `__metadata__`."""
    sha256: str
    """Of the header's bytes."""


def read_header(mapping: Bytes) -> Header:
    """Read and check a file's header; CheckpointError names file and tensor."""
    path, size = mapping.path, mapping.size
    if size < LENGTH_BYTES:
        raise CheckpointError(path, f"is cut off after {size} bytes", hint="download it again")
    with mapping.buffer() as buffer:
        length = int.from_bytes(buffer[:LENGTH_BYTES], "little")
        if length > size - LENGTH_BYTES:
            shown = f"{length} bytes" if length < 1 << 50 else "an absurd length"
            raise CheckpointError(
                path,
                f"the header claims {shown}, the file has {size}",
                hint="the file is cut off, or no safetensors file",
            )
        if length > MAX_HEADER_BYTES:
            raise CheckpointError(path, f"the header is larger than {MAX_HEADER_BYTES >> 20} MiB")
        data = bytes(buffer[LENGTH_BYTES : LENGTH_BYTES + length])
    # Writers leave room behind the header, as the format allows: packed files have some MiB of it.
    table = parse_object(data.rstrip(b" "), path, "the header", room=room_for(size))
    texts = table.pop("__metadata__", {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise CheckpointError(path, "__metadata__ in the header is not a table of texts")
    entries = {}
    for name, described in table.items():
        entry = _entry(path, name, described, LENGTH_BYTES + length)
        check_range(entry, size)
        entries[name] = entry
    check_overlaps(entries.values())
    return Header(
        tensors=MappingProxyType(entries),
        metadata=MappingProxyType(texts),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def values(entry: TensorEntry, raw: torch.Tensor) -> torch.Tensor:
    """The stored values in torch shape; a view of `raw` (uint8 [nbytes]) where it is aligned."""
    import torch

    torch_name, width = DTYPES[entry.dtype]
    dtype = getattr(torch, torch_name)
    aligned = raw.clone() if raw.storage_offset() % width else raw
    return aligned.view(dtype).reshape(entry.shape)


def _entry(path: Path, name: str, described: Any, data_start: int) -> TensorEntry:
    if len(name) > MAX_NAME_CHARACTERS:
        raise CheckpointError(path, "a tensor's name is absurdly long", tensor=name[:40])
    if not isinstance(described, dict):
        raise CheckpointError(path, "is not described by a table", tensor=name)
    dtype = described.get("dtype")
    if not isinstance(dtype, str):
        raise CheckpointError(path, "has no dtype", tensor=name)
    if dtype not in DTYPES:
        raise UnsupportedModelError(
            path,
            f"type {dtype[:40]!r} is not supported",
            tensor=name,
            hint=f"readable: {', '.join(DTYPES)}",
        )
    shape = _naturals(described.get("shape"))
    if shape is None or len(shape) > MAX_DIMENSIONS:
        raise CheckpointError(path, "has no valid shape", tensor=name)
    if math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise CheckpointError(path, "claims an absurd shape", tensor=name)
    offsets = _naturals(described.get("data_offsets"))
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(path, "has no valid data_offsets", tensor=name)
    nbytes = math.prod(shape) * DTYPES[dtype][1]
    if offsets[1] - offsets[0] != nbytes:
        raise CheckpointError(
            path,
            f"shape {list(shape)} of {dtype} takes {nbytes} bytes, not what data_offsets span",
            tensor=name,
        )
    return TensorEntry(
        name=name,
        shape=tuple(shape),
        dtype=dtype,
        offset=data_start + offsets[0],
        nbytes=nbytes,
        file=path,
    )


def _naturals(value: Any) -> list[int] | None:
    """A list of whole numbers from 0 to 2**63, else None; bools are no numbers."""
    if not isinstance(value, list):
        return None
    if all(type(item) is int and 0 <= item < 1 << 63 for item in value):
        return value
    return None
