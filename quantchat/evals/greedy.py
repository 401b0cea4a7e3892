"""Greedy answers of a decoder to several prompts, all written side by side, without a runner."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from quantchat.errors import Cancelled
from quantchat.model.decoder import Decoder
from quantchat.ops.batch import Batch, Span
from quantchat.ops.kv_pool import KvPool


@dataclass(frozen=True, slots=True)
class Answer:
    """What a decoder wrote, and its states on the way."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    """The first comes from the prompt, each further one from a step."""
    hidden: torch.Tensor
    """Normed states [T, C] of the steps: row i read token i and predicts token i + 1."""

    @property
    def steps(self) -> int:
        """Steps taken, one less than tokens."""
        return len(self.tokens) - 1


@torch.inference_mode()
def write_answers(
    decoder: Decoder,
    pool: KvPool,
    prompts: list[list[int]],
    *,
    tokens: int,
    end_ids: Collection[int],
    chunk_tokens: int,
    on_step: Callable[[int], None],
    cancelled: Callable[[], bool],
) -> list[Answer]:
    """`tokens` steps for every prompt; tokens that end a turn are never picked, so all are as long.

    The pool must have pages for all of them, one after another. Raises Cancelled.
    """
    longest = max(len(prompt) for prompt in prompts) + tokens
    each = -(-longest // pool.page_tokens)
    assert pool.pages > each * len(prompts)
    firsts = [1 + each * row for row in range(len(prompts))]
    ended = torch.zeros(decoder.spec.vocab, dtype=torch.bool, device=decoder.ops.device)
    ended[list(end_ids)] = True

    def pick(hidden: torch.Tensor) -> list[int]:
        """Hidden states [R, C] -> the likeliest token of each that ends nothing."""
        logits = decoder.logits(hidden).masked_fill(ended, -torch.inf)
        return [int(token) for token in logits.argmax(dim=-1)]

    texts = [list(prompt) for prompt in prompts]
    for text, first in zip(texts, firsts, strict=True):
        hidden = _prompt(decoder, pool, text, first, chunk_tokens)
        text += pick(hidden)
    states: list[torch.Tensor] = []
    for step in range(tokens):
        if cancelled():
            raise Cancelled("the comparison was stopped")
        hidden = decoder.forward(_step(decoder, pool, texts, firsts), pool)
        states.append(hidden.clone())
        for text, token in zip(texts, pick(hidden), strict=True):
            text.append(token)
        on_step(step + 1)
    stacked = torch.stack(states)
    return [
        Answer(tuple(prompt), tuple(text[len(prompt) :]), stacked[:, row])
        for row, (prompt, text) in enumerate(zip(prompts, texts, strict=True))
    ]


def _prompt(
    decoder: Decoder, pool: KvPool, ids: list[int], first: int, chunk_tokens: int
) -> torch.Tensor:
    """Read a prompt in chunks -> the state of its last token [1, C]."""
    hidden = torch.empty(0)
    for start in range(0, len(ids), chunk_tokens):
        end = min(start + chunk_tokens, len(ids))
        positions = torch.arange(start, end, device=decoder.ops.device)
        batch = Batch(
            torch.tensor(ids[start:end], device=decoder.ops.device),
            positions.to(torch.int32),
            positions + first * pool.page_tokens,
            end - start == 1,
            (Span(0, end - start, end, _pages(pool, first, end)),),
        )
        hidden = decoder.forward(batch, pool)
    return hidden[-1:]


def _step(decoder: Decoder, pool: KvPool, texts: list[list[int]], firsts: list[int]) -> Batch:
    """The newest token of every text."""
    device = decoder.ops.device
    places = [len(text) - 1 for text in texts]
    slots = [first * pool.page_tokens + at for first, at in zip(firsts, places, strict=True)]
    spans = tuple(
        Span(row, 1, len(text), _pages(pool, firsts[row], len(text)))
        for row, text in enumerate(texts)
    )
    return Batch(
        torch.tensor([text[-1] for text in texts], device=device),
        torch.tensor(places, dtype=torch.int32, device=device),
        torch.tensor(slots, device=device),
        True,
        spans,
    )


def _pages(pool: KvPool, first: int, tokens: int) -> tuple[int, ...]:
    return tuple(range(first, first - (-tokens // pool.page_tokens)))
