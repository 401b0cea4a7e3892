"""`quantchat eval --task`: a task's questions under several schemes, printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantchat.cli.eval_words import progress

if TYPE_CHECKING:
    from quantchat.evals.study import Wish
    from quantchat.evals.subject import Subject


def run_task(
    subject: Subject,
    wish: Wish,
    path: Path,
    *,
    limit: int | None,
    shots: int,
    max_tokens: int,
    as_json: bool,
) -> bool:
    """Run and print; whether it was stopped. Raises UsageError naming file and line."""
    from quantchat.evals.report import TABLE_COLUMNS
    from quantchat.evals.task_files import read_task
    from quantchat.evals.task_report import as_record, heading, line, notes, table
    from quantchat.evals.task_study import run_schemes

    task = read_task(path, shots=shots, limit=limit)
    with progress() as shown:
        study = run_schemes(
            subject,
            task,
            wish,
            max_tokens=max_tokens,
            on_work=shown.draw,
            cancelled=shown.cancelled,
            on_row=lambda row: shown.say(line(task.kind, row)),
        )
    if as_json:
        click.echo(json.dumps(as_record(study), ensure_ascii=False))
        return study.stopped
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140)
    if console.width >= TABLE_COLUMNS:
        console.print(table(study))
    else:
        for words in (heading(study), *(line(task.kind, row) for row in study.rows)):
            console.print(words, markup=False, highlight=False)
    for words in notes(study):
        console.print(words, markup=False, highlight=False)
    return study.stopped
