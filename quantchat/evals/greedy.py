"""Greedy answers of a decoder to several prompts, all written side by side, without a runner."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch

from quantchat.evals.writer import Writer
from quantchat.model.decoder import Decoder
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
    ended = torch.zeros(decoder.spec.vocab, dtype=torch.bool, device=decoder.ops.device)
    ended[list(end_ids)] = True
    writer = Writer(
        decoder, pool, prompts, room_tokens=tokens, chunk_tokens=chunk_tokens, cancelled=cancelled
    )

    def add(hidden: torch.Tensor) -> None:
        """Put the likeliest token that ends nothing behind each text; hidden [R, C]."""
        logits = decoder.logits(hidden).masked_fill(ended, -torch.inf)
        for text, token in zip(writer.texts, logits.argmax(dim=-1), strict=True):
            text.append(int(token))

    add(writer.read())
    states: list[torch.Tensor] = []
    for step in range(tokens):
        hidden = writer.step(range(len(prompts)))
        states.append(hidden.clone())
        add(hidden)
        on_step(step + 1)
    stacked = torch.stack(states)
    return [
        Answer(tuple(prompt), tuple(text[len(prompt) :]), stacked[:, row])
        for row, (prompt, text) in enumerate(zip(prompts, writer.texts, strict=True))
    ]
