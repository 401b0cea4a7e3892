"""Pieces of a repository's files over HTTP ranges: beginnings that grow, and small parts.

Owns the requests and their bounds; what the bytes mean belongs to who reads them. Nothing is kept
on disk. A server that ignores ranges is listened to as far as the piece goes, then hung up on.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator

from quantchat.hub.http import HttpStream, SourceError, get_bytes
from quantchat.hub.hub_api import Hub, Listed, Listing

FIRST_BYTES = 1 << 18
BEGINNING_BYTES = 32 << 20
"""Vocabularies of 256,000 words take some 8 MB."""
PIECE_BYTES = 1 << 20
SMALL_FILE_BYTES = 32 << 20

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class RemoteRepo:
    """The files of a listing, for one task that `cancel` can end."""

    def __init__(self, listing: Listing, cancel: threading.Event) -> None:
        self.listing = listing
        self.hub = Hub(cancel, patient=False)

    def file(self, name: str) -> Listed | None:
        """A file of the listing."""
        return self.listing.files.get(name)

    def whole(self, name: str, limit_bytes: int = SMALL_FILE_BYTES) -> bytes:
        """A small file; raises SourceError."""
        remote = self.hub.remote(self.listing, self.listing.files[name])
        status, headers, body, _ = get_bytes(
            remote.url,
            cancel=self.hub.cancel,
            limit_bytes=limit_bytes,
            authorization=remote.authorization,
        )
        if status != 200:
            raise self.hub.refusal(self.listing.repo, status, headers)
        return body

    def piece(self, name: str, offset: int, count: int) -> bytes:
        """Some bytes of a file; raises SourceError where they do not come."""
        assert 0 < count <= PIECE_BYTES
        found = bytearray()
        with self._stream(name, offset, offset + count) as (stream, at):
            for chunk in stream.chunks():
                skipped = max(0, offset - at)
                at += len(chunk)
                found += chunk[skipped:]
                if len(found) >= count:
                    return bytes(found[:count])
        raise self._short(name, offset + len(found))

    @contextlib.contextmanager
    def _stream(self, name: str, start: int, stop: int) -> Iterator[tuple[HttpStream, int]]:
        """An answer whose body holds the bytes from `start` on, and where the body begins."""
        remote = self.hub.remote(self.listing, self.listing.files[name])
        stream = HttpStream(
            remote.url,
            cancel=self.hub.cancel,
            headers={"Range": f"bytes={start}-{stop - 1}"},
            authorization=remote.authorization,
        )
        with stream:
            yield stream, self._begins(stream, name, start, stop)

    def _begins(self, stream: HttpStream, name: str, start: int, stop: int) -> int:
        """The byte that an answer begins with; raises SourceError where it is no use."""
        size = self.listing.files[name].size_bytes
        if stream.status == 200:
            if stop > BEGINNING_BYTES and start:
                raise SourceError(f"{self.hub.host} sends {name} as a whole only")
            return 0
        if stream.status != 206:
            raise self.hub.refusal(self.listing.repo, stream.status, stream.headers)
        told = _RANGE.fullmatch(stream.headers.get("Content-Range", "").strip())
        if told is None or int(told[1]) != start:
            raise SourceError(f"{self.hub.host} answered with another part of {name}")
        if told[3] not in ("*", str(size)):
            raise SourceError(
                f"{name} has {told[3]} bytes, {self.hub.host} lists it with {size}",
                hint="it may have changed a moment ago; try again",
            )
        return start

    def _short(self, name: str, at_byte: int) -> SourceError:
        size = self.listing.files[name].size_bytes
        return SourceError(
            f"{name} ended after {at_byte} bytes, {self.hub.host} lists it with {size}",
            hint="try again, or look at the repository's page",
        )


class Beginning:
    """The first bytes of a remote file, as many as were asked for; use as a context manager."""

    def __init__(self, repo: RemoteRepo, name: str) -> None:
        self.name = name
        self.size_bytes = repo.listing.files[name].size_bytes
        self.data = bytearray()
        self._repo = repo
        self._stop = min(self.size_bytes, BEGINNING_BYTES)
        self._chunks: Iterator[bytes] = iter(())
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Beginning:
        if self._stop:
            stream, _ = self._held.enter_context(self._repo._stream(self.name, 0, self._stop))
            self._chunks = stream.chunks()
        return self

    def __exit__(self, *exc: object) -> None:
        self._held.close()

    def grow(self, until_byte: int = 0) -> None:
        """At least to a byte, and to twice of what is there; raises SourceError where it ends."""
        if until_byte > self._stop:
            raise SourceError(
                f"the header of {self.name} is longer than is sensible"
                if self._stop < self.size_bytes
                else f"the header of {self.name} is longer than the file"
            )
        wanted = min(self._stop, max(until_byte, 2 * len(self.data), FIRST_BYTES))
        while len(self.data) < wanted:
            chunk = next(self._chunks, None)
            if chunk is None:
                if len(self.data) >= max(until_byte, 1):
                    return
                raise self._repo._short(self.name, len(self.data))
            self.data += chunk
        del self.data[self._stop :]
