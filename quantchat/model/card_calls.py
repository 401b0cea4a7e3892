"""Calls of the CUDA driver that only put work into a queue, made without giving up the interpreter.

torch gives it up around each of them; with a dozen threads at work, getting it back takes ten times
as long as the call. Streams, events and memory stay torch's.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


class CardCalls:
    """False where the driver refuses: torch, asked for the same, says why."""

    def __init__(self, library: ctypes.PyDLL) -> None:
        """Raises AttributeError where the library lacks a call."""
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._copy = library.cuMemcpyHtoDAsync_v2
        self._copy.argtypes = (ctypes.c_uint64, pointer, size, pointer)
        self._record = library.cuEventRecord
        self._record.argtypes = (pointer, pointer)
        self._query = library.cuEventQuery
        self._query.argtypes = (pointer,)

    def copy(self, target: int, source: int, nbytes: int, stream: int, event: int) -> bool:
        """Copy page-locked memory to the card, then let the event happen: addresses and handles."""
        done: int = self._copy(target, source, nbytes, stream)
        return not done and not self._record(event, stream)

    def happened(self, event: int) -> bool:
        """Whether what was recorded last has happened."""
        return not self._query(event)


@functools.cache
def card_calls() -> CardCalls | None:
    """None where there is no such library."""
    with contextlib.suppress(OSError, AttributeError):
        return CardCalls(ctypes.PyDLL(LIBRARY))
    return None
