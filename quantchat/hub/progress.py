"""Progress of one fetch: bytes, speed over the last seconds, time left, stalls.

Owns the record and its arithmetic. Drawing belongs to screens and commands. Bytes that an earlier
attempt left count as done, never as speed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

_WINDOW_S = 3.0
_STALL_S = 5.0
_EVERY_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchProgress:
    """Where a fetch stands."""

    done_bytes: int
    total_bytes: int
    """0 while not known."""
    bytes_per_s: float
    """Over the last three seconds; 0 when stalled, never a frozen value."""
    remaining_s: float | None
    source: str
    """The source at work, in words."""
    detail: str
    """The file or step at work; the reason when `failed`."""
    stalled: bool
    """No byte came for five seconds."""
    failed: bool = False
    """This source gave up; the next one is tried."""
    files: int = 0
    """0 while not known."""
    files_done: int = 0
    trouble: str = ""
    """Why nothing comes at the moment; it is tried again."""
    again_s: float | None = None
    """Until it is tried again; None where that is not waited for."""
    silent_s: float = 0.0
    """Since the last byte."""
    notice: str = ""
    """Something to know, told once."""

    @property
    def waits(self) -> str:
        """What it does while nothing comes, in words; "" while bytes come."""
        if self.again_s is not None:
            return f"tries again in {max(1, round(self.again_s))} s"
        if self.trouble:
            return "tries again"
        return f"nothing for {self.silent_s:.0f} s" if self.stalled else ""


class Counter(Protocol):
    """What one file's transfer counts on."""

    done_bytes: int
    trouble: str
    """Why nothing comes; emptied by the next byte."""
    again_at_s: float | None
    """When it is tried again, by the monotonic clock."""

    def set_done(self, done_bytes: int) -> None:
        """Set the bytes so far; may go back when a transfer starts anew."""

    def add(self, count_bytes: int) -> None:
        """Count bytes that came."""

    def keep(self, count_bytes: int) -> None:
        """Count bytes that were there already."""

    def report(self) -> None:
        """Nothing came, and time passed."""


class Share:
    """One file's count among several at once: written by its thread, read by the meter's."""

    def __init__(self) -> None:
        self.done_bytes = 0
        self.kept_bytes = 0
        self.trouble = ""
        self.again_at_s: float | None = None

    def set_done(self, done_bytes: int) -> None:
        """Set the bytes so far; going back makes all of them new."""
        if done_bytes < self.done_bytes:
            self.kept_bytes = min(self.kept_bytes, done_bytes)
        self.done_bytes = done_bytes

    def add(self, count_bytes: int) -> None:
        """Count bytes that came."""
        self.done_bytes += count_bytes
        self.trouble = ""

    def keep(self, count_bytes: int) -> None:
        """Count bytes that were there already."""
        self.kept_bytes += count_bytes
        self.done_bytes += count_bytes

    def report(self) -> None:
        """The meter looks by itself."""


class Meter:
    """Counts bytes of one source and reports at most ten times a second."""

    def __init__(self, on_progress: Callable[[FetchProgress], None], source: str) -> None:
        self._on_progress = on_progress
        self.source = source
        self.detail = ""
        self.done_bytes = 0
        self.total_bytes = 0
        self.files = self.files_done = 0
        self.trouble = ""
        self.again_at_s: float | None = None
        self._notice = ""
        self._kept_bytes = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._moved_s = time.monotonic()
        self._shown_s = 0.0

    def step(self, detail: str) -> None:
        """Name the file or step at work and report at once."""
        self.detail = detail
        self._moved_s = time.monotonic()
        self.report(force=True)

    def tell(self, notice: str) -> None:
        """Report something to know, once."""
        self._notice = notice
        self.step(notice)

    def set_done(self, done_bytes: int) -> None:
        """Set the bytes so far; may go back when a transfer starts anew."""
        self.set_counts(done_bytes, self._kept_bytes)

    def set_counts(self, done_bytes: int, kept_bytes: int) -> None:
        """Set the bytes so far and how many of them an earlier attempt left."""
        now = time.monotonic()
        if done_bytes < self.done_bytes:
            self._samples.clear()
        if done_bytes != self.done_bytes:
            self._moved_s = now
        self.done_bytes = done_bytes
        self._kept_bytes = min(kept_bytes, done_bytes)
        self.report()

    def add(self, count_bytes: int) -> None:
        """Count bytes that came."""
        self.trouble = ""
        self.set_done(self.done_bytes + count_bytes)

    def keep(self, count_bytes: int) -> None:
        """Count bytes that were there already."""
        self.set_counts(self.done_bytes + count_bytes, self._kept_bytes + count_bytes)

    def fail(self, reason: str) -> None:
        """Report that this source gave up."""
        self._on_progress(
            FetchProgress(
                done_bytes=0,
                total_bytes=0,
                bytes_per_s=0.0,
                remaining_s=None,
                source=self.source,
                detail=reason,
                stalled=False,
                failed=True,
            )
        )

    def report(self, *, force: bool = False) -> None:
        """Tell the listener, unless it was told a moment ago."""
        now = time.monotonic()
        if not force and now - self._shown_s < _EVERY_S:
            return
        self._shown_s = now
        came = self.done_bytes - self._kept_bytes
        self._samples.append((now, came))
        while len(self._samples) > 2 and now - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()
        stalled = now - self._moved_s > _STALL_S
        started_s, before = self._samples[0]
        elapsed_s = now - started_s
        speed = 0.0 if stalled or elapsed_s <= 0 else max(0, came - before) / elapsed_s
        left = self.total_bytes - self.done_bytes
        notice, self._notice = self._notice, ""
        self._on_progress(
            FetchProgress(
                done_bytes=self.done_bytes,
                total_bytes=self.total_bytes,
                bytes_per_s=speed,
                remaining_s=left / speed if speed > 0 and left >= 0 and self.total_bytes else None,
                source=self.source,
                detail=self.detail,
                stalled=stalled,
                files=self.files,
                files_done=self.files_done,
                trouble=self.trouble,
                again_s=None if self.again_at_s is None else max(0.0, self.again_at_s - now),
                silent_s=now - self._moved_s,
                notice=notice,
            )
        )
