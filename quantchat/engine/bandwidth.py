"""Measures how fast the processor reads its memory, once for a machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

READ_BYTES = 1 << 27
"""More than the caches of most processors hold; read in some ten milliseconds."""
REPEATS = 5


def cpu_read_bytes_per_s(threads: int) -> float:
    """Best of several readings of a block of memory, reduced to one number, with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        data = torch.ones(READ_BYTES // 4, dtype=torch.float32)
        # Which reduction reads fastest depends on the processor and its library.
        readers: tuple[Callable[[], torch.Tensor], ...] = (
            lambda: torch.dot(data, data),
            lambda: data.sum(),
        )
        best_s = float("inf")
        for reader in readers * REPEATS:
            started_s = time.perf_counter()
            reader()
            best_s = min(best_s, time.perf_counter() - started_s)
    finally:
        torch.set_num_threads(before)
    return READ_BYTES / best_s
