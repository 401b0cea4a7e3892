"""Multiple choice by log-likelihood: which continuation of a prompt a model finds likeliest.

Owns prompts and the scoring of several continuations on one reading of what they share. Prompts are
plain text, as evaluation harnesses have it; no chat template.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from quantchat.errors import Cancelled
from quantchat.evals.logprobs import chunk_batch, log_softmax
from quantchat.evals.task_files import LETTERS, Question, Task
from quantchat.evals.writer import finite
from quantchat.model.decoder import Decoder
from quantchat.ops.kv_pool import KvPool
from quantchat.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Prompted:
    """A question as tokens: for each choice the whole text, scored from `firsts` on."""

    question: Question
    ids: tuple[tuple[int, ...], ...]
    firsts: tuple[int, ...]
    lengths: tuple[int, ...]
    """UTF-8 bytes of each choice, for the normalised score."""

    @property
    def longest_tokens(self) -> int:
        """Tokens of the longest text."""
        return max(map(len, self.ids))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whether the likeliest choice is right, by the sum and by the mean over bytes."""

    plain: bool
    normalised: bool


def prompted(task: Task, tokenizer: Tokenizer) -> list[Prompted]:
    """All questions of a task as tokens."""
    return [_prompted(task, question, tokenizer) for question in task.questions]


@torch.inference_mode()
def choose(
    decoder: Decoder,
    pool: KvPool,
    item: Prompted,
    *,
    chunk_tokens: int,
    cancelled: Callable[[], bool],
) -> Chosen:
    """Score every choice. The pool must have room for the longest text. Raises Cancelled,
    EngineError.
    """
    # The row before a scored token predicts it, so that row is each choice's own.
    shared = min(min(item.firsts) - 1, _common(item.ids))
    _run(decoder, pool, item.ids[0], 0, shared, chunk_tokens, cancelled)
    known: dict[tuple[tuple[int, ...], int], torch.Tensor] = {}
    sums: list[float] = []
    for ids, first in zip(item.ids, item.firsts, strict=True):
        inputs = ids[:-1]
        if (inputs, first) not in known:
            rows = _run(decoder, pool, ids, shared, len(inputs), chunk_tokens, cancelled)
            logits = finite(decoder.logits(rows[first - 1 - shared :]))
            known[inputs, first] = log_softmax(logits)
        targets = torch.tensor(ids[first:], device=decoder.ops.device)
        picked = known[inputs, first].gather(1, targets[:, None])
        sums.append(float(picked.double().sum()))
    right = item.question.right
    means = [total / max(1, size) for total, size in zip(sums, item.lengths, strict=True)]
    return Chosen(_best(sums) == right, _best(means) == right)


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _run(
    decoder: Decoder,
    pool: KvPool,
    ids: tuple[int, ...],
    start: int,
    end: int,
    chunk_tokens: int,
    cancelled: Callable[[], bool],
) -> torch.Tensor:
    """Tokens start .. end through the decoder -> their states [end - start, C]."""
    parts: list[torch.Tensor] = []
    for at in range(start, end, chunk_tokens):
        if cancelled():
            raise Cancelled("the evaluation was stopped")
        stop = min(at + chunk_tokens, end)
        parts.append(decoder.forward(chunk_batch(ids, at, stop, pool), pool).clone())
    return torch.cat(parts) if parts else torch.empty(0, decoder.spec.hidden)


def _common(texts: tuple[tuple[int, ...], ...]) -> int:
    """Tokens that all texts begin with."""
    count = 0
    for column in zip(*texts, strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count


def _prompted(task: Task, question: Question, tokenizer: Tokenizer) -> Prompted:
    letters = task.kind == "letters"
    shown = "".join(
        f"{_asked(example, letters)} {_said(example, example.right, letters)}\n\n"
        for example in task.examples_of(question)
    )
    context = shown + _asked(question, letters)
    head = tokenizer.encode(context, add_bos=tokenizer.adds_bos)
    ids: list[tuple[int, ...]] = []
    firsts: list[int] = []
    lengths: list[int] = []
    for index in range(len(question.choices)):
        said = _said(question, index, letters)
        whole = tokenizer.encode(f"{context} {said}", add_bos=tokenizer.adds_bos)
        first = max(1, min(_common((tuple(head), tuple(whole))), len(whole) - 1))
        ids.append(tuple(whole))
        firsts.append(first)
        lengths.append(len(said.encode()))
    return Prompted(question, tuple(ids), tuple(firsts), tuple(lengths))


def _asked(question: Question, letters: bool) -> str:
    if not letters:
        return f"Question: {question.text.strip()}\nAnswer:"
    lines = [
        f"{letter}. {choice.strip()}"
        for letter, choice in zip(LETTERS, question.choices, strict=False)
    ]
    return "\n".join([question.text.strip(), *lines, "Answer:"])


def _said(question: Question, index: int, letters: bool) -> str:
    return LETTERS[index] if letters else question.choices[index].strip()
