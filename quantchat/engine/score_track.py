"""One model's way along tokens that are there already: pages, chunks, the hidden states in front of
its head.

Owns the pages while it goes; what it computed can be found by others afterwards, but answers' own
pages go before. Which model steps when, and what becomes of the states, is `scoring`'s.
"""

from __future__ import annotations

import torch

from quantchat.engine.model import LoadedModel
from quantchat.engine.pages import PageAllocator
from quantchat.hardware.op_table import CPU_COPY_ROWS
from quantchat.model.decoder import Decoder
from quantchat.model.logprobs import as_stored, scored_chunk

FEW_ROWS = CPU_COPY_ROWS
"""A processor multiplies so many rows in less time than half of them."""


class Track:
    """Rows from `first_row` on are wanted; row i predicts token i + 1."""

    def __init__(self, model: LoadedModel, ids: list[int], first_row: int, *, exact: bool) -> None:
        """`exact`: from an empty cache and on the weights as stored, as evaluations read a text."""
        self.ids = ids
        self.first_row = first_row
        self.decoder: Decoder = as_stored(model.decoder) if exact else model.decoder
        self.last_chunk_rows = 0
        self._exact = exact
        self._hidden: list[torch.Tensor] = []
        self._gathered = 0
        self._allocator: PageAllocator | None = None
        self._pages: list[int] = []
        self._computed = 0

    @property
    def rows(self) -> int:
        """Rows that are wanted in all."""
        return len(self.ids) - 1 - self.first_row

    @property
    def done(self) -> bool:
        """Whether all wanted rows are there."""
        return self._gathered == self.rows

    @property
    def holds_pages(self) -> bool:
        """Whether pages would come free by `give_back`."""
        return bool(self._pages)

    def hidden(self) -> torch.Tensor:
        """Normed hidden states [rows, C], when done."""
        assert self.done
        if len(self._hidden) > 1:
            self._hidden = [torch.cat(self._hidden)]
        return self._hidden[0]

    def step(self, model: LoadedModel, chunk_tokens: int) -> bool:
        """Compute a chunk; False where there are no pages for it now."""
        if self._allocator is not model.pages:
            # The model began anew: what these pages hold is in doubt.
            self._pages = []
            self._begin(model.pages)
        start = self._computed
        end = self._end(start, chunk_tokens)
        if not self._reserve(model.pages, end):
            self.give_back()
            return False
        part = scored_chunk(
            self.decoder,
            model.pool,
            self.ids,
            start=start,
            end=end,
            first_row=self.first_row + self._gathered,
            pages=self._pages,
        )
        self._computed, self.last_chunk_rows = end, end - start
        if part is not None:
            self._hidden.append(part)
            self._gathered += part.shape[0]
        if self.done:
            self.give_back()
        return True

    def _end(self, start: int, chunk_tokens: int) -> int:
        """Where the chunk from `start` on ends; live ones leave no rest of a few rows."""
        last = len(self.ids) - 1
        if not self._exact and last - start < chunk_tokens + FEW_ROWS:
            return last
        return min(start + chunk_tokens, last)

    def give_back(self) -> None:
        """Let go of the pages; a later step finds what is still there."""
        if self._allocator is None:
            return
        if not self._exact:
            self._allocator.publish(self._pages, self.ids[: self._computed], guest=True)
        self._allocator.release(self._pages)
        self._allocator, self._pages = None, []

    def _begin(self, pages: PageAllocator) -> None:
        """Take what is known of everything before the next wanted row, whose own state is not."""
        self._allocator = pages
        size = pages.page_tokens
        # A page more is computed where the rows would else be few.
        start = min(self.first_row + self._gathered, max(0, len(self.ids) - 1 - FEW_ROWS))
        whole = start // size * size
        self._pages = [] if self._exact else pages.match(self.ids[:whole])
        self._computed = len(self._pages) * size

    def _reserve(self, pages: PageAllocator, tokens: int) -> bool:
        missing = -(-tokens // pages.page_tokens) - len(self._pages)
        if missing > pages.idle:
            return False
        for _ in range(missing):
            page = pages.take(self._pages[-1] if self._pages else None)
            assert page is not None
            self._pages.append(page)
        return True
