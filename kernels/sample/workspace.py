"""What sampling kernels pass to each other, and what a step passes to the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch

BLOCK = 1024
"""Logits a program."""
DIGIT_BITS = 8
"""Bits of the threshold found by one pass of histograms."""
BLOCKS_PER_TABLE = 4
"""Programs that share a table: a bin's count and weight fit one int64 up to 2^12 logits."""
STATE_WORDS = 8


@dataclass(frozen=True, slots=True)
class Workspace:
    """Scratch of the kernels for up to `rows` rows; `arrivals` must be zero between launches."""

    rows: int
    vocab: int
    best: torch.Tensor
    """float32 [rows, blocks] and `best_ids` int32: the largest logit of each block."""
    best_ids: torch.Tensor
    top: torch.Tensor
    """float32 [rows] and `top_ids` int32: the largest of a row, lowest id."""
    top_ids: torch.Tensor
    above: torch.Tensor
    """int64 [rows, blocks]: weight over the threshold; `ties` int32: logits that equal it."""
    ties: torch.Tensor
    state: torch.Tensor
    """int64 [rows, STATE_WORDS]: see stochastic.py."""
    tables: torch.Tensor
    """int64 [rows, 4 passes, tables, 256]."""
    arrivals: torch.Tensor
    """int32 [rows]: programs that have finished."""

    @staticmethod
    def create(rows: int, vocab: int, device: torch.device) -> Workspace:
        """Buffers for logits [rows, vocab]."""
        assert 0 < vocab <= 1 << 19, f"sums of weights are exact up to 2^19 tokens, not {vocab}"
        blocks = -(-vocab // BLOCK)
        tables = -(-blocks // BLOCKS_PER_TABLE)

        def zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        return Workspace(
            rows=rows,
            vocab=vocab,
            best=zeros(rows, blocks, dtype=torch.float32),
            best_ids=zeros(rows, blocks, dtype=torch.int32),
            top=zeros(rows, dtype=torch.float32),
            top_ids=zeros(rows, dtype=torch.int32),
            above=zeros(rows, blocks, dtype=torch.int64),
            ties=zeros(rows, blocks, dtype=torch.int32),
            state=zeros(rows, STATE_WORDS, dtype=torch.int64),
            tables=zeros(rows, 32 // DIGIT_BITS, tables, 1 << DIGIT_BITS, dtype=torch.int64),
            arrivals=zeros(rows, dtype=torch.int32),
        )

    @property
    def blocks(self) -> int:
        """Programs a row."""
        return self.best.shape[1]


@dataclass(frozen=True, slots=True)
class Feedback:
    """Rows' state that the picked token changes, for R rows or more."""

    ids: torch.Tensor
    """int64 [R]: the token, the next step's input."""
    positions: torch.Tensor
    """int32 [R], like `seq_lens`: grow by `active`."""
    seq_lens: torch.Tensor
    indices: torch.Tensor
    """int64 [R]: tokens drawn so far, the generator's counter; grows by `active`."""
    active: torch.Tensor
    """int32 [R]: 1, or 0 for rows of padding."""
    ring: torch.Tensor
    """int64 [2, R]: the token for the host, at place `index % 2`; may be pinned host memory."""
    seen: torch.Tensor | None
    """bool [R, vocab]: gets the token where a penalty is asked for."""

    def check(self, rows: int) -> None:
        """Asserts shapes and types for so many rows."""
        for tensor, dtype in (
            (self.ids, torch.int64),
            (self.positions, torch.int32),
            (self.seq_lens, torch.int32),
            (self.indices, torch.int64),
            (self.active, torch.int32),
        ):
            assert tensor.dtype == dtype and tensor.is_contiguous() and tensor.shape[0] >= rows
        assert self.ring.dtype == torch.int64 and self.ring.is_contiguous()
        assert self.ring.shape[0] == 2 and self.ring.shape[1] >= rows
