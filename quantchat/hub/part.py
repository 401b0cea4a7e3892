"""One file as far as it came: `NAME.part`, and beside it `NAME.json` with what it is to become.

Owns the bytes on disk, their running digest and what may be kept from an earlier attempt. The
bytes that are there are read once into the digest; the caller holds the folder's lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

_CHUNK_BYTES = 1 << 20
_RECORD_BYTES = 1 << 16
_PUSH_BYTES = 16 << 20
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What a file's bytes must hash to; `git` is the sha1 of a git blob."""

    kind: Literal["sha256", "git"]
    value: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"


class Part:
    """The growing file of `name` in `folder`; a context manager that closes it and keeps it."""

    def __init__(self, folder: Path, name: str, *, size_bytes: int | None, digest: Digest | None):
        self.size_bytes = size_bytes
        self.digest = digest
        self.done_bytes = 0
        self.etag = ""
        self._path = part_path(folder, name)
        self._record = folder / f"{name}.json"
        self._out: IO[bytes] | None = None
        self._pushed_bytes = 0

    def __enter__(self) -> Part:
        kept = self._kept_etag()
        self._out = self._path.open("r+b" if kept is not None else "w+b")
        self._start_digest()
        self.etag = kept or ""
        self._write_record()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._out is not None:
            self._out.close()
            self._out = None

    def recall(self, on_bytes: Callable[[int], None]) -> None:
        """Read what is there into the digest, telling each count; the caller may raise there."""
        out = self._file()
        out.seek(0)
        while chunk := out.read(_CHUNK_BYTES):
            self._hash.update(chunk)
            self.done_bytes += len(chunk)
            on_bytes(len(chunk))
        self._pushed_bytes = self.done_bytes
        if self.size_bytes is not None and self.done_bytes > self.size_bytes:
            self.reset()

    def append(self, chunk: bytes) -> None:
        """Add bytes at the end."""
        self._file().write(chunk)
        self._hash.update(chunk)
        self.done_bytes += len(chunk)
        if self.done_bytes - self._pushed_bytes >= _PUSH_BYTES:
            self._push()

    def reset(self) -> None:
        """Forget all bytes."""
        out = self._file()
        out.seek(0)
        out.truncate()
        self.done_bytes = self._pushed_bytes = 0
        self._start_digest()

    def name_etag(self, etag: str) -> None:
        """Remember the ETag that the bytes came with."""
        if etag != self.etag:
            self.etag = etag
            self._write_record()

    def found(self) -> Digest:
        """The digest of all bytes so far, of the kind that is wanted."""
        kind = self.digest.kind if self.digest is not None else "sha256"
        return Digest(kind=kind, value=self._hash.hexdigest())

    def move_to(self, target: Path) -> None:
        """Put the finished file at `target`, safely on disk."""
        out = self._file()
        out.flush()
        os.fsync(out.fileno())
        self.__exit__()
        os.replace(self._path, target)

    def delete(self) -> None:
        """Remove file and record."""
        self.__exit__()
        self._path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)

    def is_of(self, record: Path) -> bool:
        """Whether a record on disk promises the same bytes as this part."""
        return self._matches(_read(record))

    def _kept_etag(self) -> str | None:
        """The ETag of the bytes that may be kept; None when there are none."""
        record = _read(self._record)
        if not self._path.is_file() or not self._matches(record):
            return None
        etag = record.get("etag")
        text = etag if isinstance(etag, str) and len(etag) < 1000 else ""
        # Without a digest only an ETag tells that the source still has the same file.
        return text if self.digest is not None or text else None

    def _matches(self, record: dict[str, object]) -> bool:
        return (
            record.get("format") == _FORMAT
            and record.get("size_bytes") == self.size_bytes
            and record.get("digest") == (str(self.digest) if self.digest else None)
        )

    def _write_record(self) -> None:
        record = {
            "format": _FORMAT,
            "size_bytes": self.size_bytes,
            "digest": str(self.digest) if self.digest else None,
            "etag": self.etag,
        }
        fresh = self._record.with_name(f"{self._record.name}.new")
        fresh.write_text(json.dumps(record), encoding="utf-8")
        os.replace(fresh, self._record)

    def _start_digest(self) -> None:
        if self.digest is not None and self.digest.kind == "git":
            self._hash = hashlib.sha1(usedforsecurity=False)
            self._hash.update(b"blob %d\0" % (self.size_bytes or 0))
        else:
            self._hash = hashlib.sha256()

    def _push(self) -> None:
        """Have the disk begin on what is new: the sync at the end is short, whatever the size."""
        if sys.platform == "linux":
            fresh_bytes = self.done_bytes - self._pushed_bytes
            # Written pages that are not on disk yet are written, and stay in memory.
            os.posix_fadvise(
                self._file().fileno(), self._pushed_bytes, fresh_bytes, os.POSIX_FADV_DONTNEED
            )
        self._pushed_bytes = self.done_bytes

    def _file(self) -> IO[bytes]:
        assert self._out is not None, "the part is not open"
        return self._out


def part_path(folder: Path, name: str) -> Path:
    """Where the bytes of an unfinished file grow."""
    return folder / f"{name}.part"


def kept_bytes(folder: Path, name: str, *, size_bytes: int | None, digest: Digest | None) -> int:
    """Bytes of a file that a new attempt need not fetch."""
    part = Part(folder, name, size_bytes=size_bytes, digest=digest)
    try:
        size = part_path(folder, name).stat().st_size
    except OSError:
        return 0
    return size if part.is_of(folder / f"{name}.json") and size <= (size_bytes or size) else 0


def is_finished(
    folder: Path, name: str, target: Path, *, size_bytes: int | None, digest: Digest | None
) -> bool:
    """Whether `target` was checked and moved there by an earlier attempt at the same bytes."""
    part = Part(folder, name, size_bytes=size_bytes, digest=digest)
    try:
        there = target.stat().st_size
    except OSError:
        return False
    return digest is not None and there == size_bytes and part.is_of(folder / f"{name}.json")


def _read(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > _RECORD_BYTES:
            return {}
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
