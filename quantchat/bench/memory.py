"""Most memory that this process held so far, on a card or in the machine."""

from __future__ import annotations

import sys

import psutil
import torch


def peak_bytes(device: str) -> int:
    """On cuda what torch's allocator reserved at most, else the highest resident size."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved()
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().rss)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
