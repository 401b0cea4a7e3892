"""One file over HTTP: resumed by ranges, within a call and across processes, checked as it comes.

Owns requests, retries and what an answer is worth. The bytes on disk are `part`'s; every try
starts at the source's own address, so a storage address that has expired is asked for anew.
Where a digest is known it decides, not the ETag: storage hosts name equal bytes differently.
"""

from __future__ import annotations

import email.utils
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from quantchat.errors import Cancelled
from quantchat.hub.http import HttpStream, SourceError, same_origin
from quantchat.hub.part import Digest, Part
from quantchat.hub.progress import Counter

_ATTEMPTS = 5
_PATIENT_ATTEMPTS = 12
_WAIT_S = 0.5
_MAX_WAIT_S = 30.0
_MAX_ASKED_S = 300.0
_RANGE_FAULTS = 6
_RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_STORAGE_STATUS = frozenset({400, 401, 403, 404, 410})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


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


class Busy(SourceError):
    """The source asks to come back; `wait_s` is None where it does not say when."""

    def __init__(self, message: str, *, status: int, wait_s: float | None) -> None:
        super().__init__(message, status=status, fault="broken")
        self.wait_s = wait_s


def download(
    remote: Remote,
    target: Path,
    *,
    meter: Counter,
    cancel: threading.Event,
    work: Path | None = None,
    worked: Callable[[], bool] = lambda: False,
) -> str:
    """Write `remote` to `target` and return its digest. Raises Cancelled, SourceError.

    The unfinished file is kept in `work` (the target's folder where None) for the next call.
    `worked` says whether the source has sent anything, be it of another file: then a lost
    network is waited for.
    """
    folder = work or target.parent
    with Part(folder, target.name, size_bytes=remote.size_bytes, digest=remote.digest) as part:
        job = _Download(remote, part, meter, cancel, worked)
        job.recall()
        job.run()
        digest = part.found()
        if remote.digest is not None and digest != remote.digest:
            part.delete()
            meter.set_done(job.base_bytes)
            raise SourceError(
                f"{remote.name} is not the file that was promised: "
                f"its {digest.kind} digest is {digest.value[:12]}…, "
                f"not {remote.digest.value[:12]}…",
                hint="try again later, or another source: the bytes at this one are wrong",
            )
        part.move_to(target)
    return str(digest)


class _Download:
    def __init__(
        self,
        remote: Remote,
        part: Part,
        meter: Counter,
        cancel: threading.Event,
        worked: Callable[[], bool],
    ) -> None:
        self.base_bytes = meter.done_bytes
        self._remote = remote
        self._part = part
        self._meter = meter
        self._cancel = cancel
        self._worked = worked
        self._range_faults = 0
        self._range_refused = 0
        self._joined = False
        """The bytes come from more than one answer."""

    def recall(self) -> None:
        """Take up what an earlier attempt left."""

        def count(count_bytes: int) -> None:
            if self._cancel.is_set():
                raise Cancelled("the download was stopped")
            self._meter.keep(count_bytes)

        self._part.recall(count)
        self._joined = self._part.done_bytes > 0
        self._meter.set_done(self.base_bytes + self._part.done_bytes)

    def run(self) -> None:
        """Ask until all bytes are there and, if joined from several answers, fit together."""
        part, remote = self._part, self._remote
        while True:
            if part.done_bytes != remote.size_bytes or not part.done_bytes:
                self._complete()
            if remote.digest is None or part.found() == remote.digest or not self._joined:
                return
            # Pieces of different copies: once more, in one piece.
            self._restart()
            self._joined = False
            self._complete()
            return

    def _complete(self) -> None:
        failures = 0
        while True:
            before = self._part.done_bytes
            wait_s = None
            try:
                self._attempt()
                return
            except SourceError as error:
                failures = 1 if self._part.done_bytes > before else failures + 1
                began = self._part.done_bytes > 0 or self._worked()
                self._meter.trouble = error.message
                hopeless = error.fault == "final" or (error.fault == "unreachable" and not began)
                if hopeless or failures >= (_PATIENT_ATTEMPTS if began else _ATTEMPTS):
                    raise
                if isinstance(error, Busy):
                    wait_s = error.wait_s
            self._joined = self._joined or self._part.done_bytes > 0
            pause(failures, wait_s, cancel=self._cancel, meter=self._meter)

    def _attempt(self) -> None:
        remote, part = self._remote, self._part
        headers = {}
        if part.done_bytes and self._range_refused < _RANGE_FAULTS:
            headers["Range"] = f"bytes={part.done_bytes}-"
            if remote.digest is None:
                headers["If-Range"] = part.etag
        with HttpStream(
            remote.url, cancel=self._cancel, headers=headers, authorization=remote.authorization
        ) as stream:
            skip_bytes = self._check_head(stream)
            for chunk in stream.chunks():
                if not chunk:
                    self._meter.report()
                    continue
                if skip_bytes:
                    skipped = min(skip_bytes, len(chunk))
                    skip_bytes -= skipped
                    chunk = chunk[skipped:]
                if part.done_bytes + len(chunk) > (remote.size_bytes or remote.limit_bytes):
                    self._restart()
                    raise SourceError(f"{remote.name} is longer than announced")
                part.append(chunk)
                self._meter.add(len(chunk))
        if remote.size_bytes is not None and part.done_bytes < remote.size_bytes:
            raise SourceError(f"{remote.name} broke off", fault="broken")

    def _check_head(self, stream: HttpStream) -> int:
        """How many bytes at the start of the answer are here already."""
        remote, part = self._remote, self._part
        host = urlsplit(stream.url).hostname
        if stream.status == 416 and part.done_bytes:
            self._range_refused += 1
            raise self._range_fault(f"{host} refused to go on within {remote.name}")
        check_busy(stream)
        if stream.status not in (200, 206):
            # Signed storage addresses expire; the next try asks the source for a new one.
            stale = stream.status in _STORAGE_STATUS and not same_origin(remote.url, stream.url)
            raise SourceError(
                f"{host} answered {stream.status} for {remote.name}",
                status=0 if stale else stream.status,
                fault="broken" if stale else "final",
            )
        self._check_promise(stream)
        skip_bytes = self._check_range(stream) if stream.status == 206 else self._check_whole()
        etag = stream.headers.get("ETag", "")
        part.name_etag("" if etag.startswith("W/") else etag)
        return skip_bytes

    def _check_promise(self, stream: HttpStream) -> None:
        digest, linked = self._remote.digest, stream.linked_etag.strip('"')
        if digest is None or len(linked) != len(digest.value):
            return
        if linked.lower() != digest.value.lower():
            raise SourceError(
                f"{self._remote.name} changed at the source while it was asked for",
                hint="start the download again",
            )

    def _check_range(self, stream: HttpStream) -> int:
        remote, part = self._remote, self._part
        found = _CONTENT_RANGE.match(stream.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != part.done_bytes:
            raise self._range_fault(f"{remote.name} came from the wrong place on")
        if remote.size_bytes is not None and found[3] not in ("*", str(remote.size_bytes)):
            raise SourceError(
                f"{remote.name} has {found[3]} bytes at the source, not {remote.size_bytes}",
                fault="broken",
            )
        self._range_faults = self._range_refused = 0
        return 0

    def _check_whole(self) -> int:
        """A 200 to a range request is the whole file again, perhaps another one."""
        part, remote = self._part, self._remote
        if not part.done_bytes:
            return 0
        if remote.digest is None:
            self._restart()
            return 0
        if self._range_faults < _RANGE_FAULTS:
            raise self._range_fault(f"{remote.name} came from its start again")
        return part.done_bytes

    def _range_fault(self, message: str) -> Busy:
        """Another of the source's machines may do better, at once."""
        self._range_faults += 1
        return Busy(message, status=0, wait_s=_WAIT_S)

    def _restart(self) -> None:
        self._part.reset()
        self._meter.set_done(self.base_bytes)


def check_busy(stream: HttpStream) -> None:
    """Raise Busy for an answer that asks to come back."""
    if stream.status in _RETRY_STATUS:
        host = urlsplit(stream.url).hostname
        said = "asks to slow down" if stream.status == 429 else f"answered {stream.status}"
        wait_s = retry_after_s(stream.headers.get("Retry-After", ""))
        if wait_s is not None and wait_s > _MAX_ASKED_S:
            raise SourceError(
                f"{host} {said} and to come back in {wait_s / 60:.0f} minutes",
                hint="what has come is kept; pull it again then",
                status=stream.status,
            )
        raise Busy(f"{host} {said}; try again later", status=stream.status, wait_s=wait_s)


def pause(
    failures: int, wait_s: float | None, *, cancel: threading.Event, meter: Counter | None = None
) -> None:
    """Wait before the next try: as long as asked, else twice as long each time up to a cap."""
    if wait_s is None:
        wait_s = min(_WAIT_S * 2 ** (failures - 1), _MAX_WAIT_S) * random.uniform(0.8, 1.0)
    until_s = time.monotonic() + wait_s
    if meter is not None:
        meter.again_at_s = until_s
    while (left_s := until_s - time.monotonic()) > 0:
        if cancel.wait(min(left_s, 0.1)):
            raise Cancelled("the download was stopped")
        if meter is not None:
            meter.report()
    if meter is not None:
        meter.again_at_s = None


def retry_after_s(text: str) -> float | None:
    """Seconds that a Retry-After asks for, given as seconds or as a date; None for neither."""
    text = text.strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        when = email.utils.parsedate_to_datetime(text)
        return max(0.0, when.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


__all__ = ["Busy", "Digest", "Remote", "check_busy", "download", "pause", "retry_after_s"]
