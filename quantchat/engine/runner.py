"""Carries out steps on the device: batches in, tokens out. The eager runner, for any device.

Policy is the scheduler's. A runner may return the tokens of a decode step one call late (the
captured one does), so callers take (sequence, token) pairs as they come.
"""

from __future__ import annotations

import time
from array import array
from typing import Protocol

import torch

from quantchat.engine.sampler import penalize, pick, uniform
from quantchat.engine.sequence import Sequence
from quantchat.engine.threads import ThreadGovernor
from quantchat.model.decoder import Decoder
from quantchat.ops.batch import Batch, Span, sent
from quantchat.ops.kv_pool import KvPool
from quantchat.requests import Sampling

ROW_ALIGNMENT = 8
"""64 bytes."""


class Runner(Protocol):
    """Runs steps. All pages that a step writes are in the sequences' page lists already."""

    def prefill(self, sequence: Sequence, start: int, count: int) -> int | None:
        """Compute tokens start .. start + count; the next token where they are the last ones."""

    def decode(self, sequences: tuple[Sequence, ...]) -> list[tuple[Sequence, int]]:
        """Compute each sequence's newest token; pairs that are known by now."""

    def flush(self) -> list[tuple[Sequence, int]]:
        """Pairs still under way; afterwards none is."""

    def leave(self, sequence: Sequence) -> None:
        """The sequence takes no more steps for now."""


class Picker(Protocol):
    """Picks a token as `engine.sampler.pick` does."""

    def pick(
        self,
        logits: torch.Tensor,
        sampling: Sampling,
        *,
        seed: int,
        index: int,
        seen: torch.Tensor | None,
    ) -> int:
        """The answer's token number `index` from float32 logits [vocab]; see DevicePicker."""


class EagerRunner:
    """One op at a time; the token is read back after every step."""

    def __init__(
        self, decoder: Decoder, pool: KvPool, *, threads: int = 0, picker: Picker | None = None
    ) -> None:
        """`threads`: most that a step on the CPU may use, 0 to leave the number alone.

        `picker`: picks tokens on a card; else logits are read back in parts.
        """
        self.decoder = decoder
        self.pool = pool
        self.device = decoder.ops.device
        self._picker = picker
        self._numbers = array("q", range(pool.pages * pool.page_tokens))
        """0, 1, ...: positions and slots are pieces of it."""
        self._governor = ThreadGovernor(threads) if threads else None

    def prefill(self, sequence: Sequence, start: int, count: int) -> int | None:
        end = start + count
        if self._governor is not None:
            torch.set_num_threads(self._governor.threads)
        hidden = self.decoder.forward(self._batch([(sequence, start, count)]), self.pool)
        if end < len(sequence.tokens):
            return None
        return self._sample(sequence, self.decoder.logits(hidden[-1:])[0])

    def decode(self, sequences: tuple[Sequence, ...]) -> list[tuple[Sequence, int]]:
        governor = self._governor
        if governor is None:
            return self._decode(sequences)
        torch.set_num_threads(governor.threads)
        started_s = time.perf_counter()
        pairs = self._decode(sequences)
        governor.took(time.perf_counter() - started_s)
        return pairs

    def _decode(self, sequences: tuple[Sequence, ...]) -> list[tuple[Sequence, int]]:
        spans = [(sequence, len(sequence.tokens) - 1, 1) for sequence in sequences]
        logits = self.decoder.logits(self.decoder.forward(self._batch(spans), self.pool))
        return [
            (sequence, self._sample(sequence, logits[row]))
            for row, sequence in enumerate(sequences)
        ]

    def flush(self) -> list[tuple[Sequence, int]]:
        return []

    def leave(self, sequence: Sequence) -> None:
        sequence.seen = None

    def _batch(self, parts: list[tuple[Sequence, int, int]]) -> Batch:
        ids, positions, slots = array("q"), array("q"), array("q")
        spans: list[Span] = []
        page_tokens, numbers = self.pool.page_tokens, self._numbers
        for sequence, start, count in parts:
            end = start + count
            pages = tuple(sequence.pages[: -(-end // page_tokens)])
            span = Span(len(ids), count, end, pages)
            spans.append(span)
            ids += array("q", sequence.tokens[start:end])
            positions += numbers[start:end]
            if span.run is not None:
                base = span.run * page_tokens
                slots += numbers[base + start : base + end]
                continue
            for place in range(start // page_tokens, len(pages)):
                base = pages[place] * page_tokens
                low = max(0, start - place * page_tokens)
                slots += numbers[base + low : base + min(page_tokens, end - place * page_tokens)]
        # Each of the three begins where a kernel may take many values at once.
        filling = array("q", [0]) * (-len(ids) % ROW_ALIGNMENT)
        values = ids + filling + positions + filling + slots + filling
        table = sent(torch.frombuffer(values, dtype=torch.int64), self.device).view(3, -1)
        table = table[:, : len(ids)]
        decode = all(count == 1 for _, _, count in parts)
        return Batch(table[0], table[1].to(torch.int32), table[2], decode, tuple(spans))

    def _sample(self, sequence: Sequence, logits: torch.Tensor) -> int:
        sampling, seen = sequence.sampling, None
        if sampling.repetition_penalty != 1:
            seen = self._seen(sequence, logits.shape[0])
        if self._picker is not None:
            seed, index = sequence.seed, sequence.draws
            return self._picker.pick(logits, sampling, seed=seed, index=index, seen=seen)
        if seen is not None:
            penalty = logits.new_full((1,), sampling.repetition_penalty)
            logits = penalize(logits, seen, penalty)
        return pick(logits, sampling, uniform(sequence.seed, sequence.draws))

    def _seen(self, sequence: Sequence, vocab: int) -> torch.Tensor:
        """bool [vocab] of the sequence's tokens, kept with it."""
        if sequence.seen is None:
            sequence.seen = torch.zeros(vocab, dtype=torch.bool, device=self.device)
            sequence.seen[sent(torch.tensor(sequence.tokens), self.device)] = True
        else:
            sequence.seen[sequence.tokens[-1]] = True
        return sequence.seen
