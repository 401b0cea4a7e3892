"""The rows of one forward pass and where their keys and values live.

T rows in all. A prefill pass holds a chunk of one sequence; a decode pass one row per sequence.
Device tensors are static buffers in a captured graph, so nothing here is read back by an op;
`spans` is the host's knowledge of the same facts, absent inside a graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True, slots=True)
class Span:
    """Rows `start .. start + count` are the last `count` tokens of a sequence of `length` tokens."""

    start: int
    count: int
    length: int
    pages: tuple[int, ...]
    """Pages that hold the sequence, in order."""

    run: int | None = field(init=False, compare=False)
    """First page where all pages follow each other, else None."""

    def __post_init__(self) -> None:
        first = self.pages[0]
        follows = self.pages == tuple(range(first, first + len(self.pages)))
        object.__setattr__(self, "run", first if follows else None)


@dataclass(frozen=True, slots=True)
class Batch:
    """ids, slots: int64 [T]; positions: int32 [T]; block_table: int32 [B, max_pages]; seq_lens: int32 [B]."""

    ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    """page * page_tokens + offset of each row's place in the cache."""
    decode: bool
    spans: tuple[Span, ...] = ()
    block_table: torch.Tensor | None = None
    seq_lens: torch.Tensor | None = None
    page_tokens: int = 0
    """Tokens a page where the embedding op is to write `slots` from the table; 0: they are there."""
    shared: dict[tuple[str, int, int], torch.Tensor] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )
    """What the first layer has made of the spans for all others, see span_attention."""
    views: dict[tuple[str, int, int], tuple[tuple[torch.Tensor, torch.Tensor], ...]] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )
    """Views of the cache, a pair for each layer, see run_views."""


def sent(host: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The same values on the device, taken before this returns; nothing waits for what runs there.

    From pageable memory: torch records an event when page-locked memory that it copied from is freed,
    and the process ends with that where the card is lost.
    """
    return host.to(device, non_blocking=True)
