"""Most memory that this process held since a moment, on a card or in the machine."""

from __future__ import annotations

import contextlib
import gc
import sys
from pathlib import Path

import psutil
import torch

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""proc(5): sets the peak resident size to the present one."""


def forget_peak(device: str) -> None:
    """Begin anew: what loading and checking held beside the model does not count."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        CLEAR_REFS.write_text(RESET_PEAK)


def peak_bytes(device: str) -> int:
    """On cuda what torch's allocator reserved at most, else the highest resident size.

    Where the system cannot forget a peak, it is that of the process's whole life.
    """
    if device == "cuda":
        return torch.cuda.max_memory_reserved()
    if sys.platform == "linux":
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().rss)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
