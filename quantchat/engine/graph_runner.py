"""Decode as one CUDA graph a step, sampler and token feedback inside.

The host runs one step ahead: it launches step n + 1 before it reads the token of step n from
pinned memory, and drops what a finished sequence computed too much. Prefill is eager.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from quantchat.engine.runner import EagerRunner
from quantchat.engine.sampler import SamplingRows, penalize, pick_rows
from quantchat.engine.sequence import Sequence
from quantchat.model.decoder import Decoder
from quantchat.ops.batch import Batch
from quantchat.ops.kv_pool import KvPool

ROW_BUCKETS = (1, 2, 4, 8)
"""Row counts with a graph of their own; others run in the next larger one."""
WARM_STEPS = 2
"""Eager runs before capture, so that kernels are compiled and pools have grown."""


@dataclass(frozen=True, slots=True)
class _Variant:
    rows: int
    greedy: bool
    penalty: bool


@dataclass(frozen=True, slots=True)
class _Pending:
    sequences: tuple[Sequence, ...]
    tokens: torch.Tensor
    """Pinned int64 [rows]."""
    ready: torch.cuda.Event


@functools.cache
def capture_stream(device_index: int) -> torch.cuda.Stream:
    """One stream for all captures: the library keeps a workspace for every stream it has seen."""
    return torch.cuda.Stream(device_index)  # type: ignore[no-untyped-call]


class GraphRunner:
    """Rows of static buffers, and a graph for each variant met."""

    def __init__(self, decoder: Decoder, pool: KvPool, *, context_tokens: int) -> None:
        device = decoder.ops.device
        rows = ROW_BUCKETS[-1]
        max_pages = -(-context_tokens // pool.page_tokens)
        self._decoder = decoder
        self._pool = pool
        self._eager = EagerRunner(decoder, pool)
        self._ids = torch.zeros(rows, dtype=torch.int64, device=device)
        self._positions = torch.zeros(rows, dtype=torch.int32, device=device)
        self._seq_lens = torch.ones(rows, dtype=torch.int32, device=device)
        self._indices = torch.zeros(rows, dtype=torch.int64, device=device)
        self._active = torch.zeros(rows, dtype=torch.int32, device=device)
        self._table = torch.zeros((rows, max_pages), dtype=torch.int32, device=device)
        self._sampling = SamplingRows.empty(rows, decoder.spec.vocab, device)
        self._seen = torch.zeros((rows, decoder.spec.vocab), dtype=torch.bool, device=device)
        self._pinned = [torch.zeros(rows, dtype=torch.int64).pin_memory() for _ in range(2)]
        self._turn = 0
        self._rows: list[Sequence | None] = [None] * rows
        self._pages_written = [0] * rows
        self._pending: _Pending | None = None
        self._graphs: dict[_Variant, torch.cuda.CUDAGraph] = {}
        self._memory = torch.cuda.graph_pool_handle()
        self._capture(_Variant(1, greedy=True, penalty=False))
        self._capture(_Variant(1, greedy=False, penalty=False))

    def prefill(self, sequence: Sequence, start: int, count: int) -> int | None:
        """See Runner.prefill."""
        token = self._eager.prefill(sequence, start, count)
        # From here on the row's own buffer knows the tokens seen.
        sequence.seen = None
        return token

    def decode(self, sequences: tuple[Sequence, ...]) -> list[tuple[Sequence, int]]:
        """See Runner.decode; the pairs are those of the step before."""
        known: list[tuple[Sequence, int]] = []
        if [s for s in self._rows if s is not None] != list(sequences):
            known = self.flush()
            sequences = tuple(s for s in sequences if s.finish is None)
            # What was under way may have ended a sequence; its caller finds out from `known`.
            self._seat(sequences, {id(s): token for s, token in known})
        self._write_pages()
        variant = _Variant(
            rows=next(size for size in ROW_BUCKETS if size >= len(sequences)),
            greedy=all(s.sampling.temperature <= 0 for s in sequences),
            penalty=any(s.sampling.repetition_penalty != 1 for s in sequences),
        )
        if variant not in self._graphs:
            self._capture(variant)
        self._graphs[variant].replay()
        tokens = self._pinned[self._turn]
        self._turn ^= 1
        tokens.copy_(self._ids, non_blocking=True)
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        ready.record()
        earlier, self._pending = self._pending, _Pending(sequences, tokens, ready)
        return known + (self._collect(earlier) if earlier is not None else [])

    def flush(self) -> list[tuple[Sequence, int]]:
        """See Runner.flush."""
        earlier, self._pending = self._pending, None
        return self._collect(earlier) if earlier is not None else []

    def leave(self, sequence: Sequence) -> None:
        """See Runner.leave; the row stays in the buffers, inactive, until the next seating."""
        if sequence.row >= 0:
            self._rows[sequence.row] = None
            self._active[sequence.row] = 0
            self._table[sequence.row].zero_()
            sequence.row = -1

    def _collect(self, pending: _Pending) -> list[tuple[Sequence, int]]:
        pending.ready.synchronize()
        tokens = pending.tokens.tolist()
        return [(s, tokens[row]) for row, s in enumerate(pending.sequences)]

    def _seat(self, sequences: tuple[Sequence, ...], unread: dict[int, int]) -> None:
        """Give the sequences rows 0, 1, ... and write their state."""
        device = self._ids.device
        self._rows = [None] * len(self._rows)
        self._pages_written = [0] * len(self._rows)
        self._active.zero_()
        self._table.zero_()
        self._positions.zero_()
        self._seq_lens.fill_(1)
        for row, sequence in enumerate(sequences):
            self._rows[row] = sequence
            sequence.row = row
            tokens = list(sequence.tokens)
            if id(sequence) in unread:
                tokens.append(unread[id(sequence)])
            self._ids[row] = tokens[-1]
            self._positions[row] = len(tokens) - 1
            self._seq_lens[row] = len(tokens)
            self._indices[row] = len(tokens) - sequence.prompt_tokens
            self._active[row] = 1
            self._sampling.set_row(row, sequence.sampling, sequence.seed, self._decoder.spec.vocab)
            if sequence.sampling.repetition_penalty != 1:
                self._seen[row].zero_()
                self._seen[row, torch.tensor(tokens, device=device)] = True

    def _write_pages(self) -> None:
        for row, sequence in enumerate(self._rows):
            if sequence is None or self._pages_written[row] == len(sequence.pages):
                continue
            start = self._pages_written[row]
            fresh = torch.tensor(sequence.pages[start:], dtype=torch.int32)
            self._table[row, start : len(sequence.pages)] = fresh.to(self._table.device)
            self._pages_written[row] = len(sequence.pages)

    def _capture(self, variant: _Variant) -> None:
        state = [
            self._ids,
            self._positions,
            self._seq_lens,
            self._indices,
            self._seen,
        ]
        saved = [tensor.clone() for tensor in state]
        stream = capture_stream(self._ids.device.index)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_STEPS):
                self._step(variant)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Another thread may be loading a model: its allocations must not break the capture.
        with torch.cuda.graph(
            graph, pool=self._memory, stream=stream, capture_error_mode="thread_local"
        ):
            self._step(variant)
        for tensor, value in zip(state, saved, strict=True):
            tensor.copy_(value)
        self._graphs[variant] = graph

    def _step(self, variant: _Variant) -> None:
        """One decode step over the first rows of the buffers, all on the device."""
        rows = slice(0, variant.rows)
        page_tokens = self._pool.page_tokens
        ids, positions = self._ids[rows], self._positions[rows]
        active, table = self._active[rows], self._table[rows]
        place = positions.to(torch.int64)
        page = table.gather(1, (place // page_tokens)[:, None])[:, 0].to(torch.int64)
        slots = page * page_tokens + place % page_tokens
        batch = Batch(
            ids=ids,
            positions=positions,
            slots=slots,
            decode=True,
            block_table=table,
            seq_lens=self._seq_lens[rows],
        )
        logits = self._decoder.logits(self._decoder.forward(batch, self._pool))
        sampling = SamplingRows(
            temperature=self._sampling.temperature[rows],
            top_k=self._sampling.top_k[rows],
            top_p=self._sampling.top_p[rows],
            min_p=self._sampling.min_p[rows],
            penalty=self._sampling.penalty[rows],
            seeds=self._sampling.seeds[rows],
        )
        if variant.penalty:
            seen = self._seen[rows]
            seen.scatter_(1, ids[:, None], True)
            logits = penalize(logits, seen, sampling.penalty[:, None])
        indices = self._indices[rows]
        token = pick_rows(logits, sampling, indices, greedy=variant.greedy)
        ids.copy_(token)
        positions.add_(active)
        self._seq_lens[rows].add_(active)
        indices.add_(active)
