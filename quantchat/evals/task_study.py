"""A task under schemes and KV precisions: each scheme's weights once, each KV precision on them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from quantchat.engine.loading import build_pool, scheme_detail
from quantchat.errors import UsageError
from quantchat.evals.choosing import Prompted, choose, prompted
from quantchat.evals.solving import Asked, asked, solve
from quantchat.evals.statistics import Share, share
from quantchat.evals.study import Wish, card_weight_bytes, plans_for, rows_of
from quantchat.evals.subject import OnWork, Subject
from quantchat.evals.task_files import Task
from quantchat.hardware.execution import ExecutionPlan
from quantchat.model.decoder import Decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One scheme with one KV precision on a task."""

    scheme: str
    kv: str
    detail: str
    device: str
    weight_bytes: int
    """As a card holds them."""
    bits_per_weight: float
    questions: int
    first: Share
    """Accuracy of the likeliest choice; or exact match after ####."""
    second: Share
    """Accuracy normalised by the choices' bytes; or exact match of the last number."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStudy:
    """All rows of one task."""

    model: str
    task: Task
    rows: tuple[TaskRow, ...]
    refused: tuple[str, ...]
    stopped: bool


def run_schemes(
    subject: Subject,
    task: Task,
    wish: Wish,
    *,
    max_tokens: int,
    on_work: OnWork,
    cancelled: Callable[[], bool],
    on_row: Callable[[TaskRow], None] = lambda row: None,
) -> TaskStudy:
    """Every pair that the plan allows; raises PlanError if it allows none, Cancelled without rows."""
    items = _items(subject, task, max_tokens)
    plans, refused = plans_for(subject, wish.schemes, wish.kvs, wish.device, items.longest_tokens)
    rows, stopped = rows_of(
        subject,
        wish,
        plans,
        refused,
        lambda decoder, plan: _row(subject, decoder, plan, items, on_work, cancelled),
        on_work=on_work,
        cancelled=cancelled,
        on_row=on_row,
    )
    return TaskStudy(
        model=subject.name, task=task, rows=tuple(rows), refused=tuple(refused), stopped=stopped
    )


@dataclass(frozen=True, slots=True)
class _Items:
    """A task as tokens: one of the two lists is empty."""

    choices: list[Prompted]
    exact: list[Asked]
    max_tokens: int
    longest_tokens: int

    @property
    def count(self) -> int:
        return len(self.choices) + len(self.exact)


def _items(subject: Subject, task: Task, max_tokens: int) -> _Items:
    """Tokens of all questions; raises UsageError naming the line of one that is too long."""
    context = subject.source.spec.context
    if task.kind != "exact":
        choices = prompted(task, subject.tokenizer)
        longest = max(choices, key=lambda item: item.longest_tokens)
        if longest.longest_tokens > context:
            raise _too_long(longest.question.where, longest.longest_tokens, context)
        return _Items(choices, [], 0, longest.longest_tokens)
    exact = asked(task, subject.tokenizer)
    item = max(exact, key=lambda item: len(item.ids))
    if len(item.ids) + max_tokens > context:
        raise _too_long(item.question.where, len(item.ids) + max_tokens, context)
    return _Items([], exact, max_tokens, len(item.ids) + max_tokens)


def _too_long(where: str, tokens: int, context: int) -> UsageError:
    return UsageError(
        f"{where}: needs {tokens} tokens with its examples and answer, "
        f"the model was made for {context}",
        hint="fewer --shots, or shorter --max-tokens",
    )


def _row(
    subject: Subject,
    decoder: Decoder,
    plan: ExecutionPlan,
    items: _Items,
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> TaskRow:
    label = f"{plan.scheme.name}, {plan.kv} KV"
    started_s = time.perf_counter()
    hits: list[tuple[bool, bool]] = []

    def add(first: bool, second: bool) -> None:
        hits.append((first, second))
        on_work(label, len(hits), items.count)

    on_work(label, 0, items.count)
    if items.choices:
        pool = build_pool(decoder, plan)
        for item in items.choices:
            chosen = choose(
                decoder,
                pool,
                item,
                chunk_tokens=plan.prefill_chunk_tokens,
                cancelled=cancelled,
            )
            add(chosen.plain, chosen.normalised)
    else:
        for solved in solve(
            decoder,
            plan,
            items.exact,
            subject.tokenizer,
            max_tokens=items.max_tokens,
            cancelled=cancelled,
        ):
            add(solved.strict, solved.flexible)
    firsts, seconds = zip(*hits, strict=True)
    held = card_weight_bytes(subject, plan, held_bytes=decoder.weight_bytes)
    return TaskRow(
        scheme=plan.scheme.name,
        kv=plan.kv,
        detail=scheme_detail(plan),
        device=plan.device_name,
        weight_bytes=held,
        bits_per_weight=8 * held / subject.source.spec.parameters,
        questions=len(hits),
        first=share(torch.tensor(firsts)),
        second=share(torch.tensor(seconds)),
        seconds=time.perf_counter() - started_s,
    )
