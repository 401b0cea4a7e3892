"""`quantchat eval`: schemes and KV precisions of a model against its own dense weights.

Owns the command's words. What is measured and how is `evals`'; tasks are `eval_task`'s.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from quantchat.cli.eval_words import Progress, model_and_calibration, progress
from quantchat.cli.lists import kv_words, scheme_words
from quantchat.errors import UsageError

if TYPE_CHECKING:
    from quantchat.evals.study import Study, Wish
    from quantchat.evals.subject import Subject
    from quantchat.evals.text import Passages

SCHEMES_DEFAULT = "fp16,int8,int4,stored"
TOKENS_DEFAULT = 4096
QUICK_TOKENS = 510
"""Two windows of the llama.cpp method."""
STOPPED = 130
"""Exit code after Ctrl-C."""
NOTHING = 1
"""Exit code where every pair was refused while it ran."""

Method = Literal["academic", "llama.cpp", "both"]


@click.command("eval")
@click.option("--model", "-m", help="Alias, repository, folder or file.  [default: the settings']")
@click.option(
    "--schemes",
    "-s",
    help=f"Schemes, separated by commas, or all.  [default: {SCHEMES_DEFAULT}]",
)
@click.option(
    "--kv", default="16bit,int8", show_default=True, help="KV precisions, by commas, or all."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--reference",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="What the rows are measured against.",
)
@click.option(
    "--text",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A UTF-8 text to predict.  [default: chats that the model writes]",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=0),
    help=f"Scored tokens, rounded up to whole windows; 0 takes the whole text.  [default: {TOKENS_DEFAULT}]",
)
@click.option("--quick", is_flag=True, help=f"Score {QUICK_TOKENS} tokens only.")
@click.option(
    "--method",
    type=click.Choice(["academic", "llama.cpp", "both"]),
    default="llama.cpp",
    show_default=True,
    help="Of a text: 2048-token windows, every token scored; or 512, the second half scored.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the chats.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A UTF-8 text for calibrated schemes.  [default: the model writes its own]",
)
@click.option(
    "--task",
    type=click.Path(path_type=Path),
    help="Questions instead: JSONL of choices or of GSM8K's kind, or a folder of MMLU's CSV files.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Questions of a task.  [default: all]")
@click.option(
    "--shots", type=click.IntRange(min=0, max=32), default=0, help="Solved examples before each."
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1, max=4096),
    default=320,
    show_default=True,
    help="Longest answer of a task that is answered in words.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.pass_context
def command(
    context: click.Context,
    model: str | None,
    schemes: str | None,
    kv: str,
    device: str,
    reference: Literal["fp32", "fp16"],
    text: Path | None,
    tokens: int | None,
    quick: bool,
    method: Method,
    seed: int,
    calibration: Path | None,
    task: Path | None,
    limit: int | None,
    shots: int,
    max_tokens: int,
    as_json: bool,
) -> None:
    """Measure what quantization costs a model: KL divergence, same top-1, perplexity, tasks."""
    scheme_names, kv_names = scheme_words(schemes or SCHEMES_DEFAULT), kv_words(kv)
    if task is not None and text is not None:
        raise UsageError("--text and --task measure different things", hint="give one of them")
    if quick and tokens is not None:
        raise UsageError("--quick says how many tokens", hint="leave --tokens out")
    prose = None if text is None else _read(text)
    name, settings = model_and_calibration(model, calibration)
    from quantchat.evals.study import Wish
    from quantchat.evals.subject import open_subject

    wish = Wish(
        schemes=scheme_names, kvs=kv_names, device=device, reference=reference, calibration=settings
    )
    subject = open_subject(name)
    measured = True
    try:
        export = subject.source.export
        if export is not None and task is None:
            raise UsageError(
                f"{subject.name} is an export: there is nothing else to measure it against",
                hint="its quantchat.json says what was measured; or evaluate the original model",
            )
        if task is not None:
            if export is not None and schemes is None:
                wish = replace(wish, schemes=(export.scheme.name,))
            from quantchat.cli.eval_task import run_task

            stopped = run_task(
                subject,
                wish,
                task,
                limit=limit,
                shots=shots,
                max_tokens=max_tokens,
                as_json=as_json,
            )
        else:
            count = QUICK_TOKENS if quick else TOKENS_DEFAULT if tokens is None else tokens
            studies = _studies(subject, wish, text, prose, count, method, seed, as_json=as_json)
            stopped = any(study.stopped for study in studies)
            measured = any(study.rows for study in studies)
    finally:
        subject.close()
    if stopped or not measured:
        context.exit(STOPPED if stopped else NOTHING)


def _read(text: Path) -> str:
    from quantchat.evals.text import read_text

    return read_text(text)


def _studies(
    subject: Subject,
    wish: Wish,
    text: Path | None,
    prose: str | None,
    tokens: int,
    method: Method,
    seed: int,
    *,
    as_json: bool,
) -> list[Study]:
    """Measure, print and remember."""
    from quantchat.evals.report import as_record, line, qualities
    from quantchat.evals.study import evaluate
    from quantchat.store.quality import remember

    studies: list[Study] = []
    with progress() as shown:
        for passages in _passages(subject, wish, text, prose, tokens, method, seed, shown):
            study = evaluate(
                subject,
                passages,
                wish,
                on_work=shown.draw,
                cancelled=shown.cancelled,
                on_row=lambda row: shown.say(line(row)),
            )
            remember(qualities(study))
            studies.append(study)
            if study.stopped:
                break
    if as_json:
        records = [as_record(study) for study in studies]
        found = records[0] if len(records) == 1 else {"studies": records}
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        for study in studies:
            _show(study)
    return studies


def _passages(
    subject: Subject,
    wish: Wish,
    text: Path | None,
    prose: str | None,
    tokens: int,
    method: Method,
    seed: int,
    shown: Progress,
) -> Iterator[Passages]:
    if prose is None or text is None:
        from quantchat.evals.chats import ChatWish, write_chats

        yield write_chats(
            subject,
            ChatWish(tokens=tokens or TOKENS_DEFAULT, seed=seed),
            device=wish.device,
            on_work=shown.draw,
            cancelled=shown.cancelled,
        )
        return
    from quantchat.evals.text import cut, method_named

    for name in ("academic", "llama.cpp") if method == "both" else (method,):
        yield cut(
            prose,
            subject.tokenizer,
            method_named(name),
            origin=text.name,
            max_scored_tokens=tokens,
        )


def _show(study: Study) -> None:
    from rich.console import Console

    from quantchat.evals.report import NARROW_COLUMNS, TABLE_COLUMNS, heading, line, notes, table

    console = Console(width=None if sys.stdout.isatty() else 180)
    if console.width >= TABLE_COLUMNS:
        console.print(table(study, wide=console.width >= NARROW_COLUMNS))
    else:
        for words in (heading(study), *map(line, study.rows)):
            console.print(words, markup=False, highlight=False)
    for words in notes(study):
        console.print(words, markup=False, highlight=False)
