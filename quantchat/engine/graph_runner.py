"""Decode as one CUDA graph a step, sampler and token feedback inside.

The host runs one step ahead: it launches step n + 1 before it reads the token of step n, which
the device has written into pinned memory, and drops what a finished sequence computed too much.
Prefill is eager.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from quantchat.engine.decode_rows import DecodeRows, Variant
from quantchat.engine.device_picker import card_picker
from quantchat.engine.runner import EagerRunner
from quantchat.engine.sequence import Sequence
from quantchat.model.decoder import Decoder
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.triton_ops import TritonOps

ROW_BUCKETS = (1, 2, 4, 8)
"""Row counts with a graph of their own; others run in the next larger one."""
WARM_STEPS = 2
"""Eager runs before capture, so that kernels are compiled and pools have grown."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A step whose tokens the host has not read."""

    sequences: tuple[Sequence, ...]
    indices: tuple[int, ...]
    """Each row's number of the token within its answer."""
    ready: torch.cuda.Event


@functools.cache
def capture_stream(device_index: int) -> torch.cuda.Stream:
    """One stream for all captures: the library keeps a workspace for every stream it has seen."""
    return torch.cuda.Stream(device_index)  # type: ignore[no-untyped-call]


class GraphRunner:
    """Rows of static buffers, and a graph for each variant met."""

    def __init__(self, decoder: Decoder, pool: KvPool, *, context_tokens: int) -> None:
        assert isinstance(decoder.ops, TritonOps), "a captured step runs our kernels"
        self._eager = EagerRunner(decoder, pool, picker=card_picker(decoder))
        self._buffers = DecodeRows(
            decoder,
            pool,
            rows=ROW_BUCKETS[-1],
            context_tokens=context_tokens,
            dependent=decoder.ops.dependent_launch,
        )
        self._rows: list[Sequence | None] = [None] * ROW_BUCKETS[-1]
        self._indices = [0] * ROW_BUCKETS[-1]
        """Number, within its answer, of the token that each row picks next."""
        self._pages_written = [0] * ROW_BUCKETS[-1]
        self._pending: _Pending | None = None
        self._graphs: dict[Variant, torch.cuda.CUDAGraph] = {}
        self._memory = torch.cuda.graph_pool_handle()
        self._capture(Variant(1, greedy=True, penalty=False))
        self._capture(Variant(1, greedy=False, penalty=False))

    def prefill(self, sequence: Sequence, start: int, count: int) -> int | None:
        """See Runner.prefill."""
        token = self._eager.prefill(sequence, start, count)
        # From here on the row's own buffer knows the tokens seen.
        sequence.seen = None
        return token

    def decode(self, sequences: tuple[Sequence, ...]) -> list[tuple[Sequence, int]]:
        """See Runner.decode; the pairs are those of the step before."""
        known: list[tuple[Sequence, int]] = []
        if self._rows != [*sequences, *[None] * (len(self._rows) - len(sequences))]:
            known = self.flush()
            sequences = tuple(s for s in sequences if s.finish is None)
            # What was under way may have ended a sequence; its caller finds out from `known`.
            self._seat(sequences, {id(s): token for s, token in known})
        self._write_pages()
        variant = Variant(
            rows=next(size for size in ROW_BUCKETS if size >= len(sequences)),
            greedy=all(s.sampling.temperature <= 0 for s in sequences),
            penalty=any(s.sampling.repetition_penalty != 1 for s in sequences),
        )
        if variant not in self._graphs:
            self._capture(variant)
        self._graphs[variant].replay()
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        ready.record()
        indices = tuple(self._indices[: len(sequences)])
        for row in range(len(sequences)):
            self._indices[row] += 1
        earlier, self._pending = self._pending, _Pending(sequences, indices, ready)
        return known + (self._collect(earlier) if earlier is not None else [])

    def flush(self) -> list[tuple[Sequence, int]]:
        """See Runner.flush."""
        earlier, self._pending = self._pending, None
        return self._collect(earlier) if earlier is not None else []

    def leave(self, sequence: Sequence) -> None:
        """See Runner.leave; the row stays in the buffers, inactive, until the next seating."""
        if sequence.row >= 0:
            self._rows[sequence.row] = None
            self._buffers.unseat(sequence.row)
            sequence.row = -1

    def _collect(self, pending: _Pending) -> list[tuple[Sequence, int]]:
        pending.ready.synchronize()
        return [
            (sequence, self._buffers.token(row, pending.indices[row]))
            for row, sequence in enumerate(pending.sequences)
        ]

    def _seat(self, sequences: tuple[Sequence, ...], unread: dict[int, int]) -> None:
        """Give the sequences rows 0, 1, ... and write their state."""
        self._rows = [None] * len(self._rows)
        self._pages_written = [0] * len(self._rows)
        self._buffers.clear()
        for row, sequence in enumerate(sequences):
            self._rows[row] = sequence
            sequence.row = row
            tokens = list(sequence.tokens)
            if id(sequence) in unread:
                tokens.append(unread[id(sequence)])
            self._indices[row] = sequence.draws_of(len(tokens))
            self._buffers.seat(row, sequence, tokens)

    def _write_pages(self) -> None:
        for row, sequence in enumerate(self._rows):
            if sequence is None or self._pages_written[row] == len(sequence.pages):
                continue
            start = self._pages_written[row]
            self._buffers.put_pages(row, start, sequence.pages[start:])
            self._pages_written[row] = len(sequence.pages)

    def _capture(self, variant: Variant) -> None:
        """Capture a step; its trial runs write over the ring, so none may be under way."""
        assert self._pending is None
        buffers = self._buffers
        saved = [tensor.clone() for tensor in buffers.state]
        buffers.stay()
        stream = capture_stream(buffers.device.index)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_STEPS):
                buffers.step(variant)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Another thread may be loading a model: its allocations must not break the capture.
        with torch.cuda.graph(
            graph, pool=self._memory, stream=stream, capture_error_mode="thread_local"
        ):
            buffers.step(variant)
        for tensor, value in zip(buffers.state, saved, strict=True):
            tensor.copy_(value)
        self._graphs[variant] = graph
