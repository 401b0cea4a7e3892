"""Time of kernels alone: launches captured in one CUDA graph, replayed, timed by the card's clock."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

WARM_REPLAYS = 2


def graph_times_s(
    launches: list[Callable[[], object]], *, repeats: int = 3, replays: int = 15
) -> list[float]:
    """Seconds of one launch, a value a replay; the launches are captured in turn `repeats` times."""
    for launch in launches:
        launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            for launch in launches:
                launch()
    times_s: list[float] = []
    for _ in range(replays + WARM_REPLAYS):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        graph.replay()
        stop.record()
        stop.synchronize()
        times_s.append(start.elapsed_time(stop) / 1e3 / (repeats * len(launches)))
    return times_s[WARM_REPLAYS:]


def graph_time_s(
    launches: list[Callable[[], object]], *, repeats: int = 3, replays: int = 15
) -> float:
    """Median of `graph_times_s`."""
    return statistics.median(graph_times_s(launches, repeats=repeats, replays=replays))
