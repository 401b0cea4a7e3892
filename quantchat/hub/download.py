"""One file over HTTP: resumed by ranges within a call, bounded, and checked while it is written.

Owns retries, Range and If-Range, digests. Where the file ends up is the caller's business.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal
from urllib.parse import urlsplit

from quantchat.errors import Cancelled
from quantchat.hub.http import HttpStream, SourceError
from quantchat.hub.progress import Meter

_ATTEMPTS = 5
_WAIT_S = 0.5
_MAX_WAIT_S = 30.0
_RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What a file's bytes must hash to; `git` is the sha1 of a git blob."""

    kind: Literal["sha256", "git"]
    value: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A file to get."""

    url: str
    name: str
    """For messages."""
    size_bytes: int | None
    limit_bytes: int
    """More than this is refused while it comes."""
    digest: Digest | None
    authorization: str | None = None


class _Restart(Exception):
    """The server's copy changed or it cannot resume: begin at byte 0."""


class _Download:
    def __init__(self, remote: Remote, out: IO[bytes], meter: Meter) -> None:
        self._remote = remote
        self._out = out
        self._meter = meter
        self._base_bytes = meter.done_bytes
        self._etag = ""
        self.reset()

    def reset(self) -> None:
        self.done_bytes = 0
        self._out.seek(0)
        self._out.truncate()
        digest = self._remote.digest
        if digest is not None and digest.kind == "git":
            self._hash = hashlib.sha1(usedforsecurity=False)
            self._hash.update(b"blob %d\0" % (self._remote.size_bytes or 0))
        else:
            self._hash = hashlib.sha256()
        self._meter.set_done(self._base_bytes)

    def attempt(self, cancel: threading.Event) -> None:
        headers = {}
        if self.done_bytes:
            headers["Range"] = f"bytes={self.done_bytes}-"
            if self._etag:
                headers["If-Range"] = self._etag
        remote = self._remote
        with HttpStream(
            remote.url, cancel=cancel, headers=headers, authorization=remote.authorization
        ) as stream:
            self._check_head(stream)
            for chunk in stream.chunks():
                if not chunk:
                    self._meter.report()
                    continue
                self.done_bytes += len(chunk)
                if self.done_bytes > (remote.size_bytes or remote.limit_bytes):
                    raise SourceError(f"{remote.name} is longer than announced")
                self._out.write(chunk)
                self._hash.update(chunk)
                self._meter.add(len(chunk))
        if remote.size_bytes is not None and self.done_bytes < remote.size_bytes:
            raise SourceError(f"{remote.name} broke off", fault="broken")

    def finish(self) -> str:
        self._out.flush()
        os.fsync(self._out.fileno())
        value = self._hash.hexdigest()
        wanted = self._remote.digest
        if wanted is not None and value != wanted.value:
            raise SourceError(
                f"{self._remote.name} is not the file that was promised: "
                f"its {wanted.kind} digest is {value[:12]}…, not {wanted.value[:12]}…"
            )
        return str(wanted) if wanted is not None else f"sha256:{value}"

    def _check_head(self, stream: HttpStream) -> None:
        status = stream.status
        host = urlsplit(stream.url).hostname
        if status == 416 and self.done_bytes:
            raise _Restart
        if status in _RETRY_STATUS:
            raise _Busy(f"{host} answered {status}", wait_s=_retry_after(stream))
        if status not in (200, 206):
            raise SourceError(f"{host} answered {status} for {self._remote.name}", status=status)
        if status == 206:
            found = _CONTENT_RANGE.match(stream.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != self.done_bytes:
                raise _Restart
        elif self.done_bytes:
            # A 200 to a range request is the whole file again, perhaps another one.
            self.reset()
        etag = stream.headers.get("ETag", "")
        self._etag = "" if etag.startswith("W/") else etag


class _Busy(SourceError):
    def __init__(self, message: str, *, wait_s: float | None) -> None:
        super().__init__(message, fault="broken")
        self.wait_s = wait_s


def download(remote: Remote, target: Path, *, meter: Meter, cancel: threading.Event) -> str:
    """Write `remote` to `target` and return its digest. Raises Cancelled, SourceError."""
    with target.open("wb") as out:
        work = _Download(remote, out, meter)
        failures = 0
        while True:
            before = work.done_bytes
            wait_s = None
            try:
                work.attempt(cancel)
                return work.finish()
            except _Restart:
                work.reset()
                failures += 1
                if failures >= _ATTEMPTS:
                    raise SourceError(f"{remote.name} keeps changing at the source") from None
                continue
            except SourceError as error:
                failures = 1 if work.done_bytes > before else failures + 1
                hopeless = error.fault == "final" or (
                    error.fault == "unreachable" and not work.done_bytes
                )
                if hopeless or failures >= _ATTEMPTS:
                    raise
                if isinstance(error, _Busy):
                    wait_s = error.wait_s
            _pause(_WAIT_S * 2 ** (failures - 1) if wait_s is None else wait_s, meter, cancel)


def _pause(wait_s: float, meter: Meter, cancel: threading.Event) -> None:
    until_s = time.monotonic() + min(wait_s, _MAX_WAIT_S)
    while (left_s := until_s - time.monotonic()) > 0:
        if cancel.wait(min(left_s, 0.2)):
            raise Cancelled("the download was stopped")
        meter.report()


def _retry_after(stream: HttpStream) -> float | None:
    text = stream.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None
