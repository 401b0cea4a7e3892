"""A task's rows as a table for people and as objects for programs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from quantchat.evals.report import METRICS_VERSION, estimate_record
from quantchat.evals.statistics import Share
from quantchat.evals.task_files import TaskKind
from quantchat.evals.task_study import TaskRow, TaskStudy

if TYPE_CHECKING:
    from rich.table import Table

FIGURES: Mapping[TaskKind, tuple[tuple[str, str], tuple[str, str]]] = MappingProxyType(
    {
        "choices": (("acc", "accuracy %"), ("acc_norm", "normalised %")),
        "letters": (("acc", "accuracy %"), ("acc_norm", "normalised %")),
        "exact": (("exact", "exact match %"), ("exact_flexible", "last number %")),
    }
)
"""Kind -> name in JSON and heading of the two figures."""
METHODS: Mapping[TaskKind, str] = MappingProxyType(
    {
        "choices": "multiple choice by log-likelihood of each choice's text; normalised by its bytes",
        "letters": "multiple choice by log-likelihood of the choice's letter, all one byte long",
        "exact": "greedy answers in the chat template; the number after ####, or the last one",
    }
)

INTERVAL = "95 % (Wilson)"


def as_record(study: TaskStudy) -> dict[str, Any]:
    """One JSON object."""
    task = study.task
    (first, _), (second, _) = FIGURES[task.kind]
    return {
        "metrics_version": METRICS_VERSION,
        "model": study.model,
        "task": task.name,
        "task_hash": task.digest,
        "kind": task.kind,
        "method": METHODS[task.kind],
        "questions": len(task.questions),
        "examples": len(task.examples),
        "interval": INTERVAL,
        "rows": [
            {
                "scheme": row.scheme,
                "kv": row.kv,
                "detail": row.detail,
                "device": row.device,
                "weight_bytes": row.weight_bytes,
                "bits_per_weight": row.bits_per_weight,
                "questions": row.questions,
                **_share_record(first, row.first),
                **_share_record(second, row.second),
                "seconds": row.seconds,
            }
            for row in study.rows
        ],
        "refused": list(study.refused),
        "stopped": study.stopped,
    }


def _share_record(name: str, share: Share) -> dict[str, float | None]:
    """The figure, its standard error and the bounds of its interval."""
    return {
        **estimate_record(name, share),
        f"{name}_low": share.low,
        f"{name}_high": share.high,
    }


def _within(share: Share) -> str:
    """Percent, and where they lie."""
    return f"{100 * share.value:.1f} ({100 * share.low:.1f}-{100 * share.high:.1f})"


def line(study_kind: TaskKind, row: TaskRow) -> str:
    """A row in words, for when it is finished."""
    (_, first), (_, second) = FIGURES[study_kind]
    return (
        f"{row.scheme}, {row.kv} KV: {row.bits_per_weight:.2f} bits, "
        f"{first} {_within(row.first)}, {second} {_within(row.second)}"
    )


def heading(study: TaskStudy) -> str:
    """What was run, in one line."""
    task = study.task
    title = f"{study.model} on {task.name}: {len(task.questions)} questions"
    return f"{title}, {len(task.examples)} examples" if task.examples else title


def table(study: TaskStudy) -> Table:
    """The study drawn by rich."""
    from rich.table import Table

    drawn = Table(title=heading(study), title_justify="left")
    (_, first), (_, second) = FIGURES[study.task.kind]
    for name in ("scheme", "KV"):
        drawn.add_column(name, no_wrap=True)
    for name in ("bits/w", "weights", first, second):
        drawn.add_column(name, justify="right")
    for row in study.rows:
        drawn.add_row(
            row.scheme,
            row.kv,
            f"{row.bits_per_weight:.2f}",
            f"{row.weight_bytes / 2**20:.1f} MiB",
            _within(row.first),
            _within(row.second),
        )
    return drawn


def notes(study: TaskStudy) -> list[str]:
    """Lines for below the table."""
    lines = [
        f"{METHODS[study.task.kind]}; in brackets the interval of {INTERVAL}; bits per weight and "
        "bytes as a card holds them"
    ]
    lines += [f"not run: {reason}" for reason in study.refused]
    if study.stopped:
        lines.append("stopped: only the rows that were finished are shown")
    return lines
