"""GGUF bytes put together field by field, so that a test can lie in any of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

MAGIC = b"GGUF"


def text(value: str | bytes, *, claimed: int | None = None) -> bytes:
    """A string with its length, or with the length it claims."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data) if claimed is None else claimed) + data


def key(name: str | bytes, kind: int, payload: bytes) -> bytes:
    """One metadata entry."""
    return text(name) + struct.pack("<I", kind) + payload


def u32(name: str, value: int) -> bytes:
    return key(name, 4, struct.pack("<I", value))


def string(name: str, value: str | bytes) -> bytes:
    return key(name, 8, text(value))


def array(name: str, kind: int, payload: bytes, *, count: int) -> bytes:
    """An array of `count` elements, by its own word."""
    return key(name, 9, struct.pack("<IQ", kind, count) + payload)


def tensor(
    name: str | bytes,
    shape: Sequence[int],
    *,
    kind: int = 0,
    offset: int = 0,
    dimensions: int | None = None,
) -> bytes:
    """One tensor description; `shape` fastest dimension first, as stored."""
    count = len(shape) if dimensions is None else dimensions
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    return text(name) + struct.pack("<I", count) + sizes + struct.pack("<IQ", kind, offset)


def file(
    *,
    keys: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    magic: bytes = MAGIC,
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A whole file; counts are true unless given."""
    head = magic + struct.pack(
        "<IQQ",
        version,
        len(tensors) if tensor_count is None else tensor_count,
        len(keys) if key_count is None else key_count,
    )
    head += b"".join(keys) + b"".join(tensors)
    return head + b"\0" * (-len(head) % alignment) + data
