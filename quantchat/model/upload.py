"""Ranges of files into the memory of a device, as fast as files and bus allow.

Threads read large pieces into page-locked buffers, each piece is on its way to the card while the
next ones are read; for the CPU they are read where they belong. Ranges that will be asked for soon are under way before they are. Owns the
buffers and their end.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import torch

from quantchat.errors import Cancelled, CheckpointError
from quantchat.hardware.memory import AHEAD_BYTES

PIECE_BYTES = 8 << 20
MOST_THREADS = 8
BUFFERS = 2
"""Pieces of each thread: one is read while the other one is copied."""
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
    sent_bytes: int = 0
    sent: dict[int, torch.cuda.Event] = field(default_factory=dict)
    """The last piece of each thread."""


class _Queue:
    """Works and their pieces, shared with the threads."""

    def __init__(self, piece_bytes: int) -> None:
        self.piece_bytes = piece_bytes
        self.error: BaseException | None = None
        self.changed = threading.Condition()
        self._works: deque[_Work] = deque()
        self._next_byte = 0
        """Of the first work."""
        self._stopped = False

    def add(self, work: _Work, *, first: bool) -> None:
        """Behind all others, or `first` of those that have not begun."""
        with self.changed:
            place = 1 if self._next_byte else 0
            self._works.insert(place, work) if first else self._works.append(work)
            self.changed.notify_all()

    def take(self) -> tuple[_Work, int, int] | None:
        """The next piece as (its work, first byte, count); waits for one, None at the end."""
        with self.changed:
            while not self._works and not self._stopped:
                self.changed.wait()
            if self._stopped:
                return None
            work, first = self._works[0], self._next_byte
            self._next_byte = min(first + self.piece_bytes, work.range.nbytes)
            if self._next_byte == work.range.nbytes:
                self._works.popleft()
                end, self._next_byte = self._next_byte, 0
                return work, first, end - first
            return work, first, self._next_byte - first

    def finished(self, work: _Work, count: int, thread: int, sent: torch.cuda.Event | None) -> None:
        with self.changed:
            work.sent_bytes += count
            if sent is not None:
                work.sent[thread] = sent
            self.changed.notify_all()

    def failed(self, error: BaseException) -> None:
        with self.changed:
            self.error = self.error or error
        self.stop()

    def stop(self) -> None:
        with self.changed:
            self._stopped = True
            self.changed.notify_all()


class Uploader:
    """Page-locked buffers and threads for as long as a load takes, and what goes through them."""

    def __init__(self, device: torch.device, most_bytes: int = MOST_THREADS * PIECE_BYTES) -> None:
        """`most_bytes`: of the largest range there will be; it bounds threads and buffers."""
        self._device = device
        pieces = max(1, -(-most_bytes // PIECE_BYTES))
        self._threads = min(MOST_THREADS, os.cpu_count() or 1, pieces)
        self._queue = _Queue(max(1, min(PIECE_BYTES, most_bytes)))
        self._stack = contextlib.ExitStack()
        self._crew: list[threading.Thread] = []
        self._expected: deque[Range] = deque()
        self._ahead: dict[Range, deque[_Work]] = {}
        self._ahead_bytes = 0
        self._lock = threading.Lock()
        """What is ahead belongs to one caller at a time."""

    def __enter__(self) -> Uploader:
        return self

    def _begin(self) -> None:
        """Buffers and threads, once there is something for them."""
        staging = self._stack.enter_context(
            _staging(self._threads, self._queue.piece_bytes, self._device)
        )
        self._crew = [
            threading.Thread(
                target=_run,
                args=(self._queue, number, buffers, self._device),
                name="upload",
                daemon=True,
            )
            for number, buffers in enumerate(staging)
        ]
        for thread in self._crew:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._queue.stop()
        for thread in self._crew:
            thread.join()
        self._crew, self._ahead = [], {}
        self._stack.close()

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
                if work.sent_bytes < nbytes and self._queue.error is None:
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
    path: Path,
    offset: int,
    nbytes: int,
    device: torch.device,
    *,
    on_bytes: Callable[[int], None],
    cancelled: Callable[[], bool],
) -> torch.Tensor:
    """Bytes offset .. offset + nbytes of a file as uint8 [nbytes] on the device.

    `on_bytes` is told what has been read so far. Raises CheckpointError where the file ends early
    or cannot be read, Cancelled, and what torch raises where the memory is not to be had.
    """
    with Uploader(device, nbytes) as uploader:
        return uploader.fetch(path, offset, nbytes, on_bytes=on_bytes, cancelled=cancelled)


@torch.inference_mode()
def _run(queue: _Queue, number: int, buffers: list[torch.Tensor], device: torch.device) -> None:
    """A thread's work; inference mode is the thread's own, and targets may belong to it."""
    try:
        with contextlib.ExitStack() as files:
            if device.type == "cuda":
                with torch.cuda.device(device):
                    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
                    _pump(queue, number, buffers, files, stream)
            else:
                _pump(queue, number, buffers, files, None)
    except BaseException as error:
        queue.failed(error)


def _pump(
    queue: _Queue,
    number: int,
    buffers: list[torch.Tensor],
    files: contextlib.ExitStack,
    stream: torch.cuda.Stream | None,
) -> None:
    """Read and send pieces until the end; the last ones have arrived on return."""
    under_way: list[torch.cuda.Event | None] = [None] * BUFFERS
    opened: dict[Path, FileIO] = {}
    turn = 0
    while (piece := queue.take()) is not None:
        work, first, count = piece
        path, offset = work.range.path, work.range.offset
        if path not in opened:
            opened[path] = files.enter_context(_opened(path))
        before = under_way[turn]
        if before is not None:
            before.synchronize()
        target = work.target[first : first + count]
        buffer = target if stream is None else buffers[turn][:count]
        _fill(path, opened[path], buffer, offset + first)
        if stream is not None:
            assert work.ready is not None
            stream.wait_event(work.ready)
            with torch.cuda.stream(stream):
                target.copy_(buffer, non_blocking=True)
            under_way[turn] = stream.record_event()
        queue.finished(work, count, number, under_way[turn])
        turn = (turn + 1) % BUFFERS
    if stream is not None:
        stream.synchronize()


def _fill(path: Path, file: FileIO, buffer: torch.Tensor, offset: int) -> None:
    view = buffer.numpy().data
    try:
        file.seek(offset)
        while view:
            count = file.readinto(view)
            if not count:
                raise CheckpointError(path, f"ends at byte {file.tell()}")
            view = view[count:]
    except OSError as error:
        raise CheckpointError(path, f"cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[FileIO]:
    try:
        file = FileIO(path)
    except OSError as error:
        raise CheckpointError(path, f"cannot be opened: {error.strerror}") from error
    with file:
        yield file


@contextlib.contextmanager
def _staging(
    threads: int, piece_bytes: int, device: torch.device
) -> Iterator[list[list[torch.Tensor]]]:
    """Buffers of each thread, page-locked for a card; given back at the end.

    torch's own page-locked memory would stay in its cache for the life of the process.
    """
    if device.type != "cuda":
        # Pieces are read where they belong.
        yield [[]] * threads
        return
    whole = torch.empty(threads * BUFFERS * piece_bytes, dtype=torch.uint8)
    buffers = [list(part) for part in whole.view(threads, BUFFERS, piece_bytes)]
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    with torch.cuda.device(device):
        # Without the lock copies are slower, never wrong.
        locked = int(runtime.cudaHostRegister(whole.data_ptr(), whole.nbytes, 0)) == 0
        if not locked:
            # CUDA would lay its complaint before the next caller.
            with contextlib.suppress(RuntimeError):
                torch.zeros(1, device=device)
        try:
            yield buffers
        finally:
            if locked:
                runtime.cudaHostUnregister(whole.data_ptr())
