"""What a decode step takes on the card, from its graph: for choosing between ways to launch it.

Owns the short copy of a model that is timed and the clock; which ways there are is the caller's.
"""

from __future__ import annotations

import copy
from statistics import median

import torch

from quantchat.engine.decode_rows import DecodeRows, Variant
from quantchat.engine.graph_runner import capture_stream
from quantchat.model.decoder import Decoder
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.triton_ops import TritonOps

GROUPS = 5
WARM_GROUPS = 4
GROUP_S = 0.004
"""Steps are timed in groups of about this length: long beside the clock's grain, short beside a load."""
MOST_STEPS = 16


class StepTimer:
    """Greedy steps of `rows` padding rows at the start of their context, the sampler included."""

    def __init__(self, decoder: Decoder, pool: KvPool, *, rows: int, context_tokens: int) -> None:
        assert isinstance(decoder.ops, TritonOps), "a captured step runs our kernels"
        self._variant = Variant(rows, greedy=True, penalty=False)
        self._buffers = DecodeRows(
            decoder,
            pool,
            rows=rows,
            context_tokens=context_tokens,
            dependent=decoder.ops.dependent_launch,
        )
        self._stream = capture_stream(self._buffers.device.index)
        self._memory = torch.cuda.graph_pool_handle()
        self._graph: torch.cuda.CUDAGraph | None = None
        """The last one timed; while it lives, so does the memory that the next one uses again."""

    def step_s(self) -> float:
        """Median seconds of a step launched as it would be now; raises where it cannot be."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            # Uncaptured first: kernels are compiled and loaded, and what fails does so here.
            self._buffers.step(self._variant)
            self._stream.synchronize()
            self._graph = graph = self._captured()
            once_s = self._group_s(graph, 2)
            steps = max(1, min(MOST_STEPS, int(GROUP_S / max(once_s, 1e-6))))
            # Clocks have fallen while kernels were compiled.
            for _ in range(WARM_GROUPS):
                self._group_s(graph, steps)
            return median(self._group_s(graph, steps) for _ in range(GROUPS))

    def _captured(self) -> torch.cuda.CUDAGraph:
        """A step as a graph, without the collection of garbage that torch.cuda.graph begins with."""
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(pool=self._memory, capture_error_mode="thread_local")
        try:
            self._buffers.step(self._variant)
        finally:
            graph.capture_end()
        return graph

    def _group_s(self, graph: torch.cuda.CUDAGraph, steps: int) -> float:
        began = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        ended = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        began.record()
        for _ in range(steps):
            graph.replay()
        ended.record()
        ended.synchronize()
        took_ms: float = began.elapsed_time(ended)
        return took_ms / 1e3 / steps


def shortened(decoder: Decoder, pool: KvPool, chosen: tuple[int, ...]) -> tuple[Decoder, KvPool]:
    """The same model with some of its layers, nothing copied."""
    short = copy.copy(pool)
    short.layers = tuple(pool.layers[i] for i in chosen)
    return decoder.cut(chosen), short
