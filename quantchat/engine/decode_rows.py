"""Static buffers of the rows that decode together, and one step over them, all on the device.

Owns the tensors that a captured step reads and writes; when it is captured and replayed is the
graph runner's affair.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quantchat.engine.sampler import SamplingRows
from quantchat.engine.sequence import Sequence
from quantchat.model.decoder import Decoder
from quantchat.ops.batch import Batch
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.sampling_cuda import Feedback, TokenPicker

SPARE_TOKENS = 8
"""Places of the block table past the context, for steps that run ahead of their end."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What a captured step is made for."""

    rows: int
    greedy: bool
    """No row draws at random."""
    penalty: bool
    """Some row has a repetition penalty."""


class DecodeRows:
    """The state of up to `rows` sequences, one step ahead of the host."""

    def __init__(
        self,
        decoder: Decoder,
        pool: KvPool,
        *,
        rows: int,
        context_tokens: int,
        dependent: bool,
    ) -> None:
        device, vocab = decoder.ops.device, decoder.spec.vocab
        max_pages = -(-(context_tokens + SPARE_TOKENS) // pool.page_tokens)
        ring = torch.zeros((2, rows), dtype=torch.int64)

        def integers(value: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.full((rows,), value, dtype=dtype, device=device)

        self.rows = rows
        self.device = device
        self._decoder = decoder
        self._pool = pool
        self._ids = integers(0, torch.int64)
        self._positions = integers(0, torch.int32)
        self._seq_lens = integers(1, torch.int32)
        self._indices = integers(0, torch.int64)
        self._active = integers(0, torch.int32)
        self._slots = integers(0, torch.int64)
        self._table = torch.zeros((rows, max_pages), dtype=torch.int32, device=device)
        self._sampling = SamplingRows.empty(rows, vocab, device)
        self._seen = torch.zeros((rows, vocab), dtype=torch.bool, device=device)
        self._ring = ring.pin_memory() if device.type == "cuda" else ring
        self._host_ring = self._ring.numpy()
        self._picker = TokenPicker(rows, vocab, device, dependent=dependent)

    @property
    def state(self) -> tuple[torch.Tensor, ...]:
        """What trials change besides the cache, to put back after them."""
        moved = (self._ids, self._positions, self._seq_lens, self._indices)
        return *moved, self._active, self._seen

    def token(self, row: int, index: int) -> int:
        """The answer's token number `index` of a row; the step that picked it must have ended.

        The host's buffer keeps the last two of each row.
        """
        return int(self._host_ring[index % 2, row])

    def clear(self) -> None:
        """All rows become padding."""
        self._active.zero_()
        self._table.zero_()
        self._positions.zero_()
        self._seq_lens.fill_(1)

    def seat(self, row: int, sequence: Sequence, tokens: list[int]) -> None:
        """A sequence with these tokens takes a row of padding; its pages come by `put_pages`."""
        self._ids[row] = tokens[-1]
        self._positions[row] = len(tokens) - 1
        self._seq_lens[row] = len(tokens)
        self._indices[row] = sequence.draws_of(len(tokens))
        self._active[row] = 1
        self._sampling.set_row(row, sequence.sampling, sequence.seed, self._decoder.spec.vocab)
        if sequence.sampling.repetition_penalty != 1:
            self._seen[row].zero_()
            self._seen[row, torch.tensor(tokens, device=self.device)] = True

    def unseat(self, row: int) -> None:
        """The row becomes padding."""
        self._active[row] = 0
        self._table[row].zero_()
        self._positions[row] = 0
        self._seq_lens[row] = 1

    def stay(self) -> None:
        """Steps move no row on, until the state is put back: the context may end with the next."""
        self._active.zero_()

    def put_pages(self, row: int, start: int, pages: list[int]) -> None:
        """Write a row's pages from place `start` on."""
        fresh = torch.tensor(pages, dtype=torch.int32)
        self._table[row, start : start + len(pages)] = fresh.to(self.device)

    def step(self, variant: Variant) -> None:
        """Compute the first rows' newest tokens, pick the next ones and move on by one place."""
        rows = slice(0, variant.rows)
        batch = Batch(
            ids=self._ids[rows],
            positions=self._positions[rows],
            slots=self._slots[rows],
            decode=True,
            block_table=self._table[rows],
            seq_lens=self._seq_lens[rows],
            page_tokens=self._pool.page_tokens,
        )
        logits = self._decoder.step_logits(batch, self._pool)
        feedback = Feedback(
            ids=self._ids,
            positions=self._positions,
            seq_lens=self._seq_lens,
            indices=self._indices,
            active=self._active,
            ring=self._ring,
            seen=self._seen,
        )
        sampling = self._sampling
        penalty = sampling.penalty if variant.penalty else None
        if variant.greedy:
            self._picker.greedy(logits, feedback, penalty=penalty)
            return
        self._picker.drawn(
            logits,
            feedback,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            seeds=sampling.seeds,
            penalty=penalty,
        )
