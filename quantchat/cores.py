"""Small pieces of tensor work on the CPU, a core each.

Inside one op on few elements torch's own threads wait for each other by spinning, which beside other
work costs ten times what they gain. Owns the number of threads meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def each(work: Callable[[T], None], items: Sequence[T]) -> None:
    """`work` of each item, in as many threads as torch has here; one after another where few."""
    threads = torch.get_num_threads()
    if threads == 1 or len(items) < 2 * threads:
        for item in items:
            work(item)
        return
    inference = torch.is_inference_mode_enabled()

    def alike(item: T) -> None:
        with torch.inference_mode(inference):
            work(item)

    try:
        with ThreadPoolExecutor(
            threads, "slices", initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            for _ in pool.map(alike, items):
                pass
    finally:
        # Threads that begin later take the number that was set last.
        torch.set_num_threads(threads)
