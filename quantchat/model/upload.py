"""A range of a file into the memory of a device, as fast as file and bus allow.

Threads read large pieces into page-locked buffers, each piece is on its way to the card while the
next ones are read; nothing waits for a single tensor. Owns the buffers and their end.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import torch

from quantchat.errors import Cancelled, CheckpointError

PIECE_BYTES = 8 << 20
MOST_THREADS = 8
BUFFERS = 2
"""Pieces of each thread: one is read while the other one is copied."""
POLL_S = 0.05


@dataclass(slots=True)
class _Work:
    """Shared by the threads of one upload."""

    path: Path
    start: int
    target: torch.Tensor
    piece_bytes: int
    next_byte: int = 0
    done_bytes: int = 0
    stopped: bool = False
    error: BaseException | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> tuple[int, int] | None:
        """The next piece as (first byte, count), None when there is none."""
        with self.lock:
            first = self.next_byte
            if self.stopped or first >= self.target.numel():
                return None
            self.next_byte = min(first + self.piece_bytes, self.target.numel())
            return first, self.next_byte - first

    def finished(self, count: int) -> None:
        with self.lock:
            self.done_bytes += count

    def failed(self, error: BaseException) -> None:
        with self.lock:
            self.stopped = True
            self.error = self.error or error


class Uploader:
    """Page-locked buffers for as long as a load takes, and what goes through them."""

    def __init__(self, device: torch.device, most_bytes: int = MOST_THREADS * PIECE_BYTES) -> None:
        """`most_bytes`: of the largest range there will be; it bounds threads and buffers."""
        self._device = device
        pieces = max(1, -(-most_bytes // PIECE_BYTES))
        self._threads = min(MOST_THREADS, os.cpu_count() or 1, pieces)
        self._piece_bytes = max(1, min(PIECE_BYTES, most_bytes))
        self._stack = contextlib.ExitStack()
        self._staging: list[list[torch.Tensor]] = []

    def __enter__(self) -> Uploader:
        self._staging = self._stack.enter_context(
            _staging(self._threads, self._piece_bytes, self._device)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._staging = []
        self._stack.close()

    def fetch(
        self,
        path: Path,
        offset: int,
        nbytes: int,
        *,
        on_bytes: Callable[[int], None] = lambda count: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> torch.Tensor:
        """See `upload`."""
        target = torch.empty(nbytes, dtype=torch.uint8, device=self._device)
        work = _Work(path, offset, target, self._piece_bytes)
        crew = [
            threading.Thread(target=_run, args=(work, buffers), name="upload", daemon=True)
            for buffers in self._staging[: max(1, -(-nbytes // self._piece_bytes))]
        ]
        for thread in crew:
            thread.start()
        try:
            while True:
                reading = next((thread for thread in crew if thread.is_alive()), None)
                on_bytes(work.done_bytes)
                if cancelled():
                    raise Cancelled("loading was stopped")
                if reading is None:
                    break
                reading.join(POLL_S)
        finally:
            work.stopped = True
            for thread in crew:
                thread.join()
        if work.error is not None:
            raise work.error
        return target


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
def _run(work: _Work, buffers: list[torch.Tensor]) -> None:
    """A thread's work; inference mode is the thread's own, and the target may belong to it."""
    device = work.target.device
    try:
        with _opened(work.path) as file:
            if device.type == "cuda":
                with torch.cuda.device(device):
                    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
                    # The target may be memory that work under way on the default stream still uses.
                    stream.wait_stream(torch.cuda.current_stream(device))
                    _pump(work, file, buffers, stream)
            else:
                _pump(work, file, buffers, None)
    except BaseException as error:
        work.failed(error)


def _pump(
    work: _Work, file: FileIO, buffers: list[torch.Tensor], stream: torch.cuda.Stream | None
) -> None:
    """Read and send pieces until there is none; the last ones have arrived on return."""
    under_way: list[Any] = [None] * len(buffers)
    turn = 0
    while (piece := work.take()) is not None:
        first, count = piece
        if under_way[turn] is not None:
            under_way[turn].synchronize()
        buffer = buffers[turn][:count]
        _fill(work.path, file, buffer, work.start + first)
        target = work.target[first : first + count]
        if stream is None:
            target.copy_(buffer)
        else:
            with torch.cuda.stream(stream):
                target.copy_(buffer, non_blocking=True)
            under_way[turn] = stream.record_event()
        work.finished(count)
        turn = (turn + 1) % len(buffers)
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
    whole = torch.empty(threads * BUFFERS * piece_bytes, dtype=torch.uint8)
    buffers = [list(part) for part in whole.view(threads, BUFFERS, piece_bytes)]
    if device.type != "cuda":
        yield buffers
        return
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
