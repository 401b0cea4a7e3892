"""Questions answered in words, greedily and in the model's chat template; the number counts.

Owns the prompt, the writing side by side, and how a number is found in an answer: after ####
(strict), or the last one (flexible), as the field's harness does for GSM8K.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

import torch

from quantchat.engine.loading import build_pool
from quantchat.evals.task_files import FINAL, Question, Task
from quantchat.evals.writer import Writer, finite, pages_of
from quantchat.hardware.execution import ExecutionPlan
from quantchat.model.decoder import Decoder
from quantchat.requests import Message
from quantchat.tokenizer import Tokenizer

ROWS = 8
"""Answers written side by side."""
INSTRUCTION = f"Think step by step. End with {FINAL} and the number alone."

_NUMBER = re.compile(r"-?\$?(?:\d[\d,]*(?:\.\d+)?|(?<!\w)\.\d+)")
MAX_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as tokens of a chat that waits for its answer."""

    question: Question
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Solved:
    """What a model wrote, and whether its number is right."""

    text: str
    strict: bool
    flexible: bool
    tokens: int


def asked(task: Task, tokenizer: Tokenizer) -> list[Asked]:
    """All questions of a task as tokens, examples as earlier turns."""
    found = []
    for question in task.questions:
        turns: list[Message] = []
        for example in task.examples_of(question):
            turns += [_user(example), Message("assistant", example.solution)]
        ids = tokenizer.encode_chat((*turns, _user(question)), add_generation_prompt=True)
        found.append(Asked(question, tuple(ids)))
    return found


@torch.inference_mode()
def solve(
    decoder: Decoder,
    plan: ExecutionPlan,
    items: Sequence[Asked],
    tokenizer: Tokenizer,
    *,
    max_tokens: int,
    cancelled: Callable[[], bool],
) -> Iterator[Solved]:
    """Answers in the order of the questions. Raises Cancelled, EngineError."""
    for start in range(0, len(items), ROWS):
        batch = items[start : start + ROWS]
        prompts = [item.ids for item in batch]
        pages = pages_of(prompts, max_tokens, plan.page_tokens) * len(batch)
        pool = build_pool(decoder, replace(plan, context_tokens=pages * plan.page_tokens))
        writer = Writer(
            decoder,
            pool,
            prompts,
            room_tokens=max_tokens,
            chunk_tokens=plan.prefill_chunk_tokens,
            cancelled=cancelled,
        )
        _write(writer, decoder, tokenizer, prompts, max_tokens)
        for item, text in zip(batch, writer.texts, strict=True):
            yield _judged(item, text[len(item.ids) :], tokenizer)


def _write(
    writer: Writer,
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
) -> None:
    rows, hidden = list(range(len(prompts))), writer.read()
    for step in range(max_tokens):
        likeliest = finite(decoder.logits(hidden)).argmax(dim=-1).tolist()
        for row, token in zip(rows, likeliest, strict=True):
            writer.texts[row].append(token)
        rows = [row for row in rows if not _ended(writer.texts[row], prompts[row], tokenizer)]
        if not rows or step + 1 == max_tokens:
            return
        hidden = writer.step(rows)


def _ended(text: Sequence[int], prompt: Sequence[int], tokenizer: Tokenizer) -> bool:
    if text[-1] in tokenizer.eos_ids:
        return True
    stops = tokenizer.template.stops
    if not stops:
        return False
    written = tokenizer.decode(text[len(prompt) :])
    return any(stop in written for stop in stops)


def _judged(item: Asked, ids: Sequence[int], tokenizer: Tokenizer) -> Solved:
    text = tokenizer.decode(ids)
    for stop in tokenizer.template.stops:
        text = text.partition(stop)[0]
    wanted = number(item.question.final)
    marked = text.rpartition(FINAL)
    strict = number(marked[2]) if marked[1] else None
    return Solved(
        text,
        strict is not None and strict == wanted,
        wanted is not None and last_number(text) == wanted,
        len(ids),
    )


def number(text: str) -> Decimal | None:
    """The first number of a text, None where there is none."""
    match = _NUMBER.search(text)
    return None if match is None else _value(match[0])


def last_number(text: str) -> Decimal | None:
    """The last number of a text, None where there is none."""
    matches = _NUMBER.findall(text)
    return _value(matches[-1]) if matches else None


def _value(digits: str) -> Decimal | None:
    plain = digits.replace(",", "").replace("$", "")
    if len(plain) > MAX_DIGITS:
        return None
    try:
        return Decimal(plain)
    except InvalidOperation:
        return None


def _user(question: Question) -> Message:
    return Message("user", f"{question.text.strip()}\n\n{INSTRUCTION}")
