"""A thread's way to a card: page-locked buffers, a stream, and copies that overlap with reading.

Owns the memory and its lock for as long as the thread works. Which bytes go where is upload's.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from io import FileIO
from pathlib import Path
from typing import Any

import torch

from quantchat.errors import CheckpointError
from quantchat.model.card_calls import CardCalls, card_calls

BUFFERS = 2
"""Pieces of a thread: one is read while the other one is copied."""
HUGE_PAGE_BYTES = 2 << 20
"""Memory in such pages is locked in a hundredth of the time."""


class Staging:
    """To be made, used and left in one thread; what was sent has arrived when it is left."""

    def __init__(self, device: torch.device, piece_bytes: int) -> None:
        self._device = device
        self._on_device = torch.cuda.device(device)
        self._memory = _memory(BUFFERS * piece_bytes)
        self._buffers = list(self._memory.view(BUFFERS, piece_bytes))
        self._views = [memoryview(buffer.numpy().data) for buffer in self._buffers]
        self._addresses = [buffer.data_ptr() for buffer in self._buffers]
        self._turn = 0
        self._count = 0
        self._locked = False
        self._calls: CardCalls | None = None
        self._runtime: Any = None

    def __enter__(self) -> Staging:
        self._on_device.__enter__()  # type: ignore[no-untyped-call]
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        torch.cuda.set_stream(self._stream)
        self._events: list[torch.cuda.Event] = [self._stream.record_event() for _ in range(BUFFERS)]
        """The end of each buffer's last copy."""
        self._lock()
        if self._locked:
            # Memory that is not locked is copied within the call, which others would wait for.
            self._calls = card_calls()
        return self

    def __exit__(self, *raised: object) -> None:
        try:
            self._stream.synchronize()
        finally:
            if self._locked:
                self._runtime.cudaHostUnregister(self._memory.data_ptr())
            self._on_device.__exit__(*raised)

    def wait_for(self, event: torch.cuda.Event) -> None:
        """Copies from now on come after the event."""
        self._stream.wait_event(event)

    def free(self, count: int) -> memoryview:
        """The next buffer's first bytes, once what was in it has been copied."""
        event = self._events[self._turn]
        if self._calls is None or not self._calls.happened(event.cuda_event):
            event.synchronize()
        self._count = count
        return self._views[self._turn][:count]

    def send(self, target: torch.Tensor, first: int) -> torch.cuda.Event:
        """Begin to copy that buffer to `target` from a byte on.

        The event is the copy's end, and later that of another one which comes after it.
        """
        turn, count = self._turn, self._count
        event = self._events[turn]
        if self._calls is None or not self._calls.copy(
            target.data_ptr() + first,
            self._addresses[turn],
            count,
            self._stream.cuda_stream,
            event.cuda_event,
        ):
            target[first : first + count].copy_(self._buffers[turn][:count], non_blocking=True)
            event.record(self._stream)
        self._turn = (turn + 1) % BUFFERS
        return event

    def _lock(self) -> None:
        """Without the lock copies are slower, never wrong.

        torch's own page-locked memory would stay in its cache for the life of the process.
        """
        self._runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        address, nbytes = self._memory.data_ptr(), self._memory.nbytes
        self._locked = int(self._runtime.cudaHostRegister(address, nbytes, 0)) == 0
        if not self._locked:
            # CUDA would lay its complaint before the next caller.
            with contextlib.suppress(RuntimeError):
                torch.zeros(1, device=self._device)


def filled(path: Path, file: FileIO, view: memoryview, offset: int) -> None:
    """Read the bytes from `offset` on until the view is full; CheckpointError where that fails."""
    try:
        while view:
            if sys.platform == "win32":
                file.seek(offset)
                count = file.readinto(view)
            else:
                count = os.preadv(file.fileno(), [view], offset)
            if not count:
                raise CheckpointError(path, f"ends at byte {offset}")
            view, offset = view[count:], offset + count
    except OSError as error:
        raise CheckpointError(path, f"cannot be read: {error.strerror}") from error


def _memory(nbytes: int) -> torch.Tensor:
    """uint8 [nbytes] of the system's, in large pages where it has them; gone with the tensor."""
    pages = mmap.mmap(-1, nbytes + HUGE_PAGE_BYTES)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(pages, dtype=torch.uint8)
    first = -whole.data_ptr() % HUGE_PAGE_BYTES
    return whole[first : first + nbytes]
