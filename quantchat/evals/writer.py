"""Several texts grown side by side by one decoder, without an engine.

Owns the places of the texts in a pool. Which token comes next is the caller's: `greedy` takes the
likeliest, `chats` draws, `solving` takes the likeliest until a turn ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from quantchat.engine.sampler import not_finite
from quantchat.errors import Cancelled
from quantchat.model.decoder import Decoder
from quantchat.ops.batch import Batch, Span
from quantchat.ops.kv_pool import KvPool


class Writer:
    """Texts, each with pages of its own from page 1 on."""

    def __init__(
        self,
        decoder: Decoder,
        pool: KvPool,
        prompts: Sequence[Sequence[int]],
        *,
        room_tokens: int,
        chunk_tokens: int,
        cancelled: Callable[[], bool],
    ) -> None:
        """`room_tokens`: what each text may grow by; the pool must have pages for all of that."""
        self.texts = [list(prompt) for prompt in prompts]
        self._decoder = decoder
        self._pool = pool
        self._chunk = chunk_tokens
        self._cancelled = cancelled
        each = pages_of(prompts, room_tokens, pool.page_tokens)
        assert pool.pages > each * len(prompts)
        self._firsts = [1 + each * row for row in range(len(prompts))]

    def read(self) -> torch.Tensor:
        """Read all prompts in chunks -> states of their last tokens [R, C]. Raises Cancelled."""
        pairs = zip(self.texts, self._firsts, strict=True)
        return torch.cat([self._read(text, first) for text, first in pairs])

    def step(self, rows: Sequence[int]) -> torch.Tensor:
        """Run the newest token of some texts -> states [rows, C]. Raises Cancelled."""
        if self._cancelled():
            raise Cancelled("the evaluation was stopped")
        pool, device = self._pool, self._decoder.ops.device
        texts, firsts = [self.texts[row] for row in rows], [self._firsts[row] for row in rows]
        places = [len(text) - 1 for text in texts]
        slots = [first * pool.page_tokens + at for first, at in zip(firsts, places, strict=True)]
        spans = tuple(
            Span(row, 1, len(text), self._pages(firsts[row], len(text)))
            for row, text in enumerate(texts)
        )
        batch = Batch(
            torch.tensor([text[-1] for text in texts], device=device),
            torch.tensor(places, dtype=torch.int32, device=device),
            torch.tensor(slots, device=device),
            True,
            spans,
        )
        return self._decoder.forward(batch, pool)

    def _read(self, ids: list[int], first: int) -> torch.Tensor:
        """Read one prompt -> the state of its last token [1, C]."""
        hidden = torch.empty(0)
        device, page_tokens = self._decoder.ops.device, self._pool.page_tokens
        for start in range(0, len(ids), self._chunk):
            if self._cancelled():
                raise Cancelled("the evaluation was stopped")
            end = min(start + self._chunk, len(ids))
            positions = torch.arange(start, end, device=device)
            batch = Batch(
                torch.tensor(ids[start:end], device=device),
                positions.to(torch.int32),
                positions + first * page_tokens,
                end - start == 1,
                (Span(0, end - start, end, self._pages(first, end)),),
            )
            hidden = self._decoder.forward(batch, self._pool)
        return hidden[-1:].clone()

    def _pages(self, first: int, tokens: int) -> tuple[int, ...]:
        return tuple(range(first, first - (-tokens // self._pool.page_tokens)))


def pages_of(prompts: Sequence[Sequence[int]], room_tokens: int, page_tokens: int) -> int:
    """Pages that each of the texts gets."""
    longest = max(len(prompt) for prompt in prompts) + room_tokens
    return -(-longest // page_tokens)


def finite(logits: torch.Tensor) -> torch.Tensor:
    """The same logits [R, V]; EngineError where a row's largest is no number to pick a token by."""
    if not bool(logits.amax(dim=-1).isfinite().all()):
        raise not_finite()
    return logits
