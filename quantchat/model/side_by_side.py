"""Many small pieces of work on tensors, a core each.

Owns the number of threads meanwhile: inside one op torch's threads wait for each other by spinning,
which beside an engine that answers costs ten times what they gain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def in_turn(work: Callable[[T], R], items: Iterable[T], most: int) -> Iterator[R]:
    """`work` of each item, in order, on the CPU: up to `most` are under way or not yet taken.

    What `work` raises comes in its turn; nothing is under way any more when the iterator ends.
    """
    threads = torch.get_num_threads()
    count = min(most, threads)
    if count < 2:
        yield from map(work, items)
        return
    under_way: deque[Future[R]] = deque()
    left = iter(items)
    pool = ThreadPoolExecutor(count, "weights", initializer=torch.set_num_threads, initargs=(1,))
    try:
        for item in left:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= count:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        # Threads that begin later take the number that was set last.
        torch.set_num_threads(threads)


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
