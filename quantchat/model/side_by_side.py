"""Many small pieces of work on tensors, a core each.

Owns the number of threads meanwhile: inside one op torch's threads wait for each other by spinning,
which beside an engine that answers costs ten times what they gain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Callable[[T], R], items: Sequence[T], device: torch.device) -> list[R]:
    """`work` of each item, in order; one after another where the device is a card."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(items) < 2:
        return [work(item) for item in items]
    try:
        with ThreadPoolExecutor(
            threads, "weights", initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            return list(pool.map(work, items))
    finally:
        # Threads that begin later take the number that was set last.
        torch.set_num_threads(threads)
