"""The head of a GGUF file, parsed over untrusted bytes.

Owns the cursor and the metadata's value types. Every count is checked against the bytes that are
left before anything is built from it. Format: ggml's docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import struct
import sys
from array import array
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from quantchat.checkpoints.room import too_large
from quantchat.errors import CheckpointError, UnsupportedModelError

MetadataValue: TypeAlias = "str | int | float | bool | list[str] | array[int] | array[float]"

STRING, ARRAY, BOOL = 8, 9, 7
SCALARS: MappingProxyType[int, str] = MappingProxyType(
    {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
)
"""Value type -> struct code; 7 is a bool in one byte."""

MAX_KEY_BYTES = 1 << 16
MAX_ARRAY_ELEMENTS = 1 << 24
KEY_BYTES = 320
TEXT_BYTES = 80
"""What an entry of the table and a text cost in memory at most, beside the text's characters."""
TEXTS_AT_ONCE = 4096
LONG_BYTES = 1 << 16
CUT_OFF_HINT = "the file is cut off or damaged; download it again"

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class MoreNeeded(Exception):
    """The file goes on, but only its beginning is here, and that does not reach far enough."""

    def __init__(self, until_byte: int) -> None:
        super().__init__(until_byte)
        self.until_byte = until_byte


class Cursor:
    """Reads little-endian values one after another; raises CheckpointError past the file's end.

    Where `buffer` is only the beginning of the `size` bytes, past that it raises MoreNeeded. `room`
    bytes of memory may go to what is read; None: any number.
    """

    __slots__ = ("buffer", "held", "path", "position", "room", "size")

    def __init__(
        self, buffer: memoryview, path: Path, size: int | None = None, room: int | None = None
    ) -> None:
        self.buffer = buffer
        self.path = path
        self.position = 0
        self.held = len(buffer)
        self.size = self.held if size is None else size
        self.room = room

    def spend(self, count: int, what: str) -> None:
        """Take so many bytes of memory out of the room; raises CheckpointError where it is used up."""
        if self.room is None:
            return
        self.room -= count
        if self.room < 0:
            raise too_large(self.path, what)

    def need(self, count: int, width: int, what: str) -> None:
        """Check that `count` items of at least `width` bytes can still follow, and are here."""
        left = self.size - self.position
        if count * width > left:
            raise CheckpointError(
                self.path,
                f"{what} needs {_bytes(count * width)} at byte {self.position}, {left} bytes are left",
                hint=CUT_OFF_HINT,
            )
        if self.position + count * width > self.held:
            raise MoreNeeded(self.position + count * width)

    def u32(self, what: str) -> int:
        """Four bytes."""
        self.need(1, 4, what)
        (value,) = _U32.unpack_from(self.buffer, self.position)
        self.position += 4
        return int(value)

    def u64(self, what: str) -> int:
        """Eight bytes."""
        self.need(1, 8, what)
        (value,) = _U64.unpack_from(self.buffer, self.position)
        self.position += 8
        return int(value)

    def text(self, what: str, *, limit: int | None = None) -> str:
        """A length in eight bytes, then UTF-8."""
        length = self.u64(what)
        if limit is not None and length > limit:
            raise CheckpointError(
                self.path, f"{what} claims {_bytes(length)}, at most {limit} make sense"
            )
        self.need(length, 1, what)
        self.spend(TEXT_BYTES + 4 * length, what)
        start, self.position = self.position, self.position + length
        try:
            return str(self.buffer[start : self.position], "utf-8")
        except UnicodeDecodeError:
            raise CheckpointError(self.path, f"{what} at byte {start} is not UTF-8") from None

    def scalar(self, kind: int, what: str) -> int | float | bool:
        """One number or bool of a value type."""
        code = struct.Struct("<" + SCALARS[kind])
        self.need(1, code.size, what)
        (value,) = code.unpack_from(self.buffer, self.position)
        self.position += code.size
        return bool(value) if kind == BOOL else value

    def texts(self, count: int, what: str) -> list[str]:
        """Many strings, as fast as Python can."""
        self.need(count, 8, what)
        buffer, position, held = self.buffer, self.position, self.held
        unpack = _U64.unpack_from
        found: list[str] = []
        append = found.append
        try:
            for left in range(count, 0, -TEXTS_AT_ONCE):
                first = position
                for _ in range(min(left, TEXTS_AT_ONCE)):
                    (length,) = unpack(buffer, position)
                    position += 8
                    end = position + length
                    if end > held:
                        self.position = position
                        self.need(length, 1, f"entry {len(found)} of {what}")
                    if length > LONG_BYTES:
                        self.spend(4 * length, what)
                    append(str(buffer[position:end], "utf-8"))
                    position = end
                self.spend(min(left, TEXTS_AT_ONCE) * TEXT_BYTES + 4 * (position - first), what)
        except struct.error:
            self.position = position
            self.need(1, 8, f"entry {len(found)} of {what}")
            raise
        except UnicodeDecodeError:
            raise CheckpointError(self.path, f"entry {len(found)} of {what} is not UTF-8") from None
        self.position = position
        return found

    def sequence(self, what: str) -> list[str] | array[int] | array[float]:
        """Element type, count, elements; arrays of arrays are refused, as llama.cpp does.

        Bools are bytes of 0 and 1.
        """
        kind = self.u32(what)
        count = self.u64(what)
        if count > MAX_ARRAY_ELEMENTS:
            raise CheckpointError(
                self.path,
                f"{what} claims {count} elements, at most {MAX_ARRAY_ELEMENTS} make sense",
            )
        if kind == STRING:
            return self.texts(count, what)
        if kind not in SCALARS:
            named = "arrays" if kind == ARRAY else f"unknown value type {kind}"
            raise UnsupportedModelError(self.path, f"{what} is an array of {named}")
        width = struct.calcsize("<" + SCALARS[kind])
        self.need(count, width, what)
        self.spend(count * width, what)
        values = array(SCALARS[kind])
        values.frombytes(self.buffer[self.position : self.position + count * width])
        if sys.byteorder == "big":
            values.byteswap()
        self.position += count * width
        return values

    def value(self, what: str) -> MetadataValue:
        """A value type, then the value."""
        kind = self.u32(what)
        if kind == STRING:
            return self.text(what)
        if kind == ARRAY:
            return self.sequence(what)
        if kind not in SCALARS:
            raise UnsupportedModelError(self.path, f"{what} has unknown value type {kind}")
        return self.scalar(kind, what)


def read_metadata(cursor: Cursor, count: int) -> dict[str, MetadataValue]:
    """`count` keys with their values; a key that comes twice is an error."""
    metadata: dict[str, MetadataValue] = {}
    for index in range(count):
        cursor.spend(KEY_BYTES, "the metadata")
        key = cursor.text(f"metadata key {index}", limit=MAX_KEY_BYTES)
        if key in metadata:
            raise CheckpointError(cursor.path, f"metadata key {key!r} comes twice")
        metadata[key] = cursor.value(f"metadata {key[:80]!r}")
    return metadata


def _bytes(count: int) -> str:
    return f"{count} bytes" if count < 1 << 50 else "an absurd number of bytes"
