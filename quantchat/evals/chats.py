"""A text for evaluations that needs no file: chats that the model itself writes, seeded.

Owns prompts, seeds and lengths. The dense 16-bit model answers; only the answers are scored, so
that what is measured is what a user of the model reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from quantchat.engine.loading import build_pool
from quantchat.engine.sampler import SamplingRows, pick_rows
from quantchat.errors import PlanError
from quantchat.evals import kept
from quantchat.evals.prompts import PROMPTS
from quantchat.evals.subject import OnWork, Subject, phases
from quantchat.evals.text import Passages, Window
from quantchat.evals.writer import Writer, finite, pages_of
from quantchat.hardware.execution import ExecutionPlan
from quantchat.model.decoder import Decoder
from quantchat.requests import Message, Sampling

METHOD = "chats"
VERSION = 1
"""Goes up when prompts or rules change, so that old chats are not taken for new ones."""
SAMPLING = Sampling()
"""The app's own way of drawing tokens."""
ROWS = 16
"""Chats written side by side."""
SHORTEST_TOKENS = 16
LONGEST_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatWish:
    """Which chats: the same wish to the same model gives the same text on one machine."""

    tokens: int
    """Answer tokens in all, rounded up to whole answers."""
    seed: int = 0

    @property
    def answer_tokens(self) -> int:
        """Longest answer: short texts still hear from most prompts."""
        return min(LONGEST_TOKENS, max(SHORTEST_TOKENS, -(-self.tokens // len(PROMPTS))))


def write_chats(
    subject: Subject,
    wish: ChatWish,
    *,
    device: str,
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> Passages:
    """The chats, out of the cache where they were written before.

    Raises PlanError, Cancelled, EngineError.
    """
    key = hashlib.sha256(
        f"{VERSION}|{subject.identity}|{wish.tokens}|{wish.seed}|{device}".encode()
    ).hexdigest()[:20]
    windows = kept.chats(key, vocab=subject.source.spec.vocab)
    if windows is None:
        windows = _written(subject, wish, device, on_work, cancelled)
        kept.keep_chats(key, windows)
    return Passages(
        origin=f"{len(windows)} chats of its own, seed {wish.seed}", method=METHOD, windows=windows
    )


def _written(
    subject: Subject,
    wish: ChatWish,
    device: str,
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> tuple[Window, ...]:
    encode = subject.tokenizer.encode_chat
    prompts = [encode((Message("user", text),), add_generation_prompt=True) for text in PROMPTS]
    longest = max(map(len, prompts))
    room = min(wish.answer_tokens, subject.source.spec.context - longest)
    if room < SHORTEST_TOKENS:
        raise PlanError(
            f"{subject.name} has no room for chats: made for {subject.source.spec.context} tokens",
            hint="measure on a text: --text FILE",
        )
    plan = subject.plan("fp16", "16bit", device, longest + room)
    decoder = subject.decoder(plan, phases("chats", on_work), cancelled).decoder
    windows: list[Window] = []
    scored = 0
    on_work("chats", 0, wish.tokens)
    while scored < wish.tokens:
        first = len(windows)
        fresh = _batch(decoder, plan, subject, prompts, first, room, wish.seed, cancelled)
        for window in fresh:
            if scored < wish.tokens:
                windows.append(window)
                scored += window.scored_tokens
        on_work("chats", min(scored, wish.tokens), wish.tokens)
    return tuple(windows)


@torch.inference_mode()
def _batch(
    decoder: Decoder,
    plan: ExecutionPlan,
    subject: Subject,
    prompts: list[list[int]],
    first: int,
    room: int,
    seed: int,
    cancelled: Callable[[], bool],
) -> list[Window]:
    """ROWS chats from number `first` on; each ends with its turn or after `room` tokens."""
    numbers = range(first, first + ROWS)
    asked = [prompts[number % len(prompts)] for number in numbers]
    pages = pages_of(asked, room, plan.page_tokens) * ROWS
    pool = build_pool(decoder, replace(plan, context_tokens=pages * plan.page_tokens))
    writer = Writer(
        decoder,
        pool,
        asked,
        room_tokens=room,
        chunk_tokens=plan.prefill_chunk_tokens,
        cancelled=cancelled,
    )
    ends, device, vocab = subject.tokenizer.eos_ids, decoder.ops.device, decoder.spec.vocab
    hidden, rows = writer.read(), list(range(ROWS))
    for step in range(room):
        drawn = SamplingRows.empty(len(rows), vocab, device)
        for place, row in enumerate(rows):
            drawn.set_row(place, SAMPLING, seed + numbers[row], vocab)
        at = torch.full((len(rows),), step, dtype=torch.int64, device=device)
        tokens = pick_rows(finite(decoder.logits(hidden)), drawn, at, greedy=False).tolist()
        for row, token in zip(rows, tokens, strict=True):
            writer.texts[row].append(token)
        rows = [row for row, token in zip(rows, tokens, strict=True) if token not in ends]
        if not rows or step + 1 == room:
            break
        hidden = writer.step(rows)
    return [
        Window(tuple(text), len(prompt)) for text, prompt in zip(writer.texts, asked, strict=True)
    ]
