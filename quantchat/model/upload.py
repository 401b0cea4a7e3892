"""Ranges of files into the memory of a device, as fast as files and bus allow.

Threads read pieces into page-locked buffers of their own, each piece is on its way to the card while
the next one is read; for the CPU they are read where they belong. Ranges that will be asked for soon
are under way before they are. Owns the threads and their end; buffers are staging's.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import torch

from quantchat.errors import Cancelled, CheckpointError
from quantchat.hardware.memory import AHEAD_BYTES
from quantchat.model.staging import Staging, filled

PIECE_BYTES = 4 << 20
MOST_THREADS = 10
POLL_S = 0.05


class Range(NamedTuple):
    """Bytes of a file."""

    path: Path
    offset: int
    nbytes: int


@dataclass(slots=True, eq=False)
class _Work:
    """A range on its way."""

    range: Range
    target: torch.Tensor
    """uint8 [nbytes] on the device."""
    ready: torch.cuda.Event | None
    """Before it the target may be memory that work under way still uses."""
    sent: dict[int, torch.cuda.Event] = field(default_factory=dict)
    """The last piece of each thread."""
    counts: list[int] = field(default_factory=list)
    """Bytes of each piece that was sent; threads append, which takes no lock."""

    @property
    def sent_bytes(self) -> int:
        """Of all pieces that were sent."""
        return sum(self.counts)


class _Queue:
    """Works and their pieces, shared with the threads."""

    def __init__(self, piece_bytes: int) -> None:
        self.piece_bytes = piece_bytes
        self.error: BaseException | None = None
        lock = threading.Lock()
        self._added = threading.Condition(lock)
        self.changed = threading.Condition(lock)
        """A work has been sent, or none will be any more; pieces wake nobody."""
        self._works: deque[_Work] = deque()
        self._next_byte = 0
        """Of the first work."""
        self._stopped = False

    def add(self, work: _Work, *, first: bool) -> None:
        """Behind all others, or `first` of those that have not begun."""
        with self._added:
            place = 1 if self._next_byte else 0
            self._works.insert(place, work) if first else self._works.append(work)
            self._added.notify_all()

    def take(self) -> tuple[_Work, int, int] | None:
        """The next piece as (its work, first byte, count); waits for one, None at the end."""
        with self._added:
            while not self._works and not self._stopped:
                self._added.wait()
            if self._stopped:
                return None
            work, first = self._works[0], self._next_byte
            end = min(first + self.piece_bytes, work.range.nbytes)
            if end == work.range.nbytes:
                self._works.popleft()
                self._next_byte = 0
            else:
                self._next_byte = end
            return work, first, end - first

    def finished(self, work: _Work, count: int, thread: int, sent: torch.cuda.Event | None) -> None:
        if sent is not None:
            work.sent[thread] = sent
        work.counts.append(count)
        if len(work.counts) == self.pieces(work):
            with self.changed:
                self.changed.notify_all()

    def pieces(self, work: _Work) -> int:
        """How many a work has."""
        return -(-work.range.nbytes // self.piece_bytes)

    def failed(self, error: BaseException) -> None:
        with self.changed:
            self.error = self.error or error
        self.stop()

    def stop(self) -> None:
        with self.changed:
            self._stopped = True
            self._added.notify_all()
            self.changed.notify_all()


class Uploader:
    """Threads for as long as a load takes, and what goes through them."""

    def __init__(self, device: torch.device, most_bytes: int = MOST_THREADS * PIECE_BYTES) -> None:
        """`most_bytes`: of the largest range there will be; it bounds the threads."""
        self._device = device
        pieces = max(1, -(-most_bytes // PIECE_BYTES))
        self._threads = min(MOST_THREADS, os.cpu_count() or 1, pieces)
        self._queue = _Queue(max(1, min(PIECE_BYTES, most_bytes)))
        self._crew: list[threading.Thread] = []
        self._expected: deque[Range] = deque()
        self._ahead: dict[Range, deque[_Work]] = {}
        self._ahead_bytes = 0
        self._lock = threading.Lock()
        """What is ahead belongs to one caller at a time."""

    def __enter__(self) -> Uploader:
        return self

    def _begin(self) -> None:
        """The threads, once there is something for them."""
        self._crew = [
            threading.Thread(
                target=_run,
                args=(self._queue, number, self._device),
                name="upload",
                daemon=True,
            )
            for number in range(self._threads)
        ]
        for thread in self._crew:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._queue.stop()
        for thread in self._crew:
            thread.join()
        self._crew, self._ahead = [], {}

    def expect(self, ranges: Iterable[Range]) -> None:
        """Ranges that will be fetched, in that order: they are begun while others are worked on."""
        with self._lock:
            self._expected.extend(each for each in ranges if each.nbytes)
            self._go_ahead()

    def fetch(
        self,
        path: Path,
        offset: int,
        nbytes: int,
        *,
        on_bytes: Callable[[int], None] = lambda count: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> torch.Tensor:
        """See `upload`; several threads may call it."""
        wanted = Range(path, offset, nbytes)
        if not nbytes:
            return torch.empty(0, dtype=torch.uint8, device=self._device)
        with self._lock:
            work = self._begun(wanted)
            if work is None:
                with contextlib.suppress(ValueError):
                    self._expected.remove(wanted)
                work = self._start(wanted, first=True)
            self._go_ahead()
        while True:
            with self._queue.changed:
                whole = len(work.counts) == self._queue.pieces(work)
                if not whole and self._queue.error is None:
                    self._queue.changed.wait(POLL_S)
                sent_bytes, error = work.sent_bytes, self._queue.error
            if error is not None:
                raise error
            on_bytes(sent_bytes)
            if cancelled():
                raise Cancelled("loading was stopped")
            if sent_bytes == nbytes:
                break
        for event in work.sent.values():
            torch.cuda.current_stream(self._device).wait_event(event)
        return work.target

    def _begun(self, wanted: Range) -> _Work | None:
        """What is under way for a range."""
        works = self._ahead.get(wanted)
        if not works:
            return None
        work = works.popleft()
        if not works:
            del self._ahead[wanted]
        self._ahead_bytes -= wanted.nbytes
        return work

    def _go_ahead(self) -> None:
        """Begin what is expected next, as far as there is room."""
        while self._expected:
            following = self._expected[0]
            if self._ahead_bytes and self._ahead_bytes + following.nbytes > AHEAD_BYTES:
                return
            try:
                work = self._start(following, first=False)
            except torch.OutOfMemoryError:
                # What is asked for must fit; what may be asked for need not.
                self._expected.clear()
                return
            self._expected.popleft()
            self._ahead.setdefault(following, deque()).append(work)
            self._ahead_bytes += following.nbytes

    def _start(self, wanted: Range, *, first: bool) -> _Work:
        target = torch.empty(wanted.nbytes, dtype=torch.uint8, device=self._device)
        if not self._crew:
            self._begin()
        ready = None
        if self._device.type == "cuda":
            ready = torch.cuda.current_stream(self._device).record_event()
        work = _Work(wanted, target, ready)
        self._queue.add(work, first=first)
        return work


def upload(
    ranges: Sequence[Range],
    device: torch.device,
    *,
    on_bytes: Callable[[int], None],
    cancelled: Callable[[], bool],
) -> list[torch.Tensor]:
    """Ranges of files, each uint8 [nbytes] in memory of its own on the device.

    `on_bytes` is told what has been read so far. Raises CheckpointError where a file ends early
    or cannot be read, Cancelled, and what torch raises where the memory is not to be had.
    """
    made: list[torch.Tensor] = []
    before = 0

    def tell(count: int) -> None:
        on_bytes(before + count)

    with Uploader(device, max((each.nbytes for each in ranges), default=0)) as uploader:
        uploader.expect(ranges)
        for each in ranges:
            made.append(uploader.fetch(*each, on_bytes=tell, cancelled=cancelled))
            before += each.nbytes
    return made


@torch.inference_mode()
def _run(queue: _Queue, number: int, device: torch.device) -> None:
    """A thread's work; inference mode is the thread's own, and targets may belong to it."""
    try:
        with contextlib.ExitStack() as files:
            if device.type == "cuda":
                with Staging(device, queue.piece_bytes) as staging:
                    _pump(queue, number, files, staging)
            else:
                _pump(queue, number, files, None)
    except BaseException as error:
        queue.failed(error)


def _pump(queue: _Queue, number: int, files: contextlib.ExitStack, staging: Staging | None) -> None:
    """Read and send pieces until the end; the last ones have arrived on return."""
    opened: dict[Path, FileIO] = {}
    before: _Work | None = None
    while (piece := queue.take()) is not None:
        work, first, count = piece
        path, offset = work.range.path, work.range.offset + first
        if path not in opened:
            opened[path] = files.enter_context(_opened(path))
        if staging is None:
            target = work.target[first : first + count]
            filled(path, opened[path], target.numpy().data, offset)
            queue.finished(work, count, number, None)
            continue
        if work is not before:
            assert work.ready is not None
            staging.wait_for(work.ready)
            before = work
        filled(path, opened[path], staging.free(count), offset)
        queue.finished(work, count, number, staging.send(work.target, first))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[FileIO]:
    try:
        file = FileIO(path)
    except OSError as error:
        raise CheckpointError(path, f"cannot be opened: {error.strerror}") from error
    with file:
        yield file
