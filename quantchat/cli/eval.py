"""`quantchat eval`: schemes and KV precisions of a model against its own dense weights.

Owns the command's words and its progress. What is measured and how is `evals`'.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from quantchat.errors import UsageError

if TYPE_CHECKING:
    from quantchat.evals.study import Study

TOKENS_DEFAULT = 4096


@click.command("eval")
@click.option("--model", "-m", help="Alias, repository, folder or file.  [default: the settings']")
@click.option(
    "--schemes",
    "-s",
    default="fp16,int8,int4,stored",
    show_default=True,
    help="Schemes, separated by commas, or all.",
)
@click.option("--kv", default="16bit,int8", show_default=True, help="KV precisions, by commas.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--reference",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="What the rows are measured against.",
)
@click.option(
    "--text", type=click.Path(path_type=Path, dir_okay=False), help="A UTF-8 text to predict."
)
@click.option(
    "--tokens",
    type=click.IntRange(min=0),
    default=TOKENS_DEFAULT,
    show_default=True,
    help="Scored tokens, rounded up to whole windows; 0 takes the whole text.",
)
@click.option(
    "--method",
    type=click.Choice(["academic", "llama.cpp"]),
    default="llama.cpp",
    show_default=True,
    help="2048-token windows, every token scored; or 512, the second half scored.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(
    model: str | None,
    schemes: str,
    kv: str,
    device: str,
    reference: Literal["fp32", "fp16"],
    text: Path | None,
    tokens: int,
    method: str,
    as_json: bool,
) -> None:
    """Measure what quantization costs a model: KL divergence, same top-1, perplexity."""
    from quantchat.hardware.memory import KV_FORMATS
    from quantchat.quant.registry import SCHEMES, scheme_named

    scheme_names = tuple(SCHEMES) if schemes == "all" else _words(schemes, "--schemes")
    for name in scheme_names:
        scheme_named(name)
    kv_names = _words(kv, "--kv")
    for name in kv_names:
        if name not in KV_FORMATS:
            raise UsageError(
                f"unknown KV precision {name!r}", hint=f"some of: {', '.join(KV_FORMATS)}"
            )
    if text is None:
        raise UsageError("there is no text to predict", hint="name a UTF-8 file with --text FILE")
    study = _study(model, scheme_names, kv_names, device, reference, text, tokens, method)
    if as_json:
        from quantchat.evals.report import as_record

        click.echo(json.dumps(as_record(study), ensure_ascii=False))
    else:
        _show(study)


def _words(text: str, option: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise UsageError(f"{option} names nothing", hint="separate several with commas")
    return words


def _study(
    model: str | None,
    schemes: tuple[str, ...],
    kvs: tuple[str, ...],
    device: str,
    reference: Literal["fp32", "fp16"],
    text: Path,
    tokens: int,
    method: str,
) -> Study:
    from quantchat import paths
    from quantchat.settings.file import load_settings

    prose = _read(text)
    name = model or load_settings(paths.settings_file())[0].model
    from quantchat.evals.study import evaluate
    from quantchat.evals.subject import open_subject
    from quantchat.evals.text import cut, method_named

    subject = open_subject(name)
    try:
        passages = cut(
            prose,
            subject.tokenizer,
            method_named(method),
            origin=text.name,
            max_scored_tokens=tokens,
        )
        with _progress() as on_work:
            return evaluate(
                subject,
                passages,
                schemes=schemes,
                kvs=kvs,
                device=device,
                reference=reference,
                on_work=on_work,
                cancelled=lambda: False,
            )
    finally:
        subject.close()


def _read(text: Path) -> str:
    from quantchat.evals.text import read_text

    return read_text(text)


def _show(study: Study) -> None:
    from rich.console import Console

    from quantchat.evals.report import notes, table

    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table(study))
    for line in notes(study):
        console.print(line, markup=False, highlight=False)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr where that is a terminal, else a line for each pass."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.completed:.0f} of {task.total:.0f} tokens"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        task = bars.add_task("", total=1)

        def draw(label: str, done: int, total: int) -> None:
            bars.update(task, description=label, completed=done, total=total or 1)

        yield draw


class _Lines:
    """One line whenever the work changes."""

    def __init__(self) -> None:
        self._label = ""

    def __call__(self, label: str, done: int, total: int) -> None:
        if label != self._label:
            self._label = label
            click.echo(label, err=True)
