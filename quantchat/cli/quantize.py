"""`quantchat quantize`: a scheme's result as a folder of its own, with its quality measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantchat.cli.eval_words import model_and_calibration, progress
from quantchat.cli.lists import kv_words

if TYPE_CHECKING:
    from quantchat.evals.quantizing import Made

TOKENS_DEFAULT = 1024


@click.command("quantize")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", "-m", help="Alias, repository, folder or file.  [default: the settings']")
@click.option(
    "--scheme", "-s", required=True, help="As in `quantchat eval`: int4, awq, nf4-dq, ..."
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A UTF-8 text for calibrated schemes.  [default: the model writes its own]",
)
@click.option(
    "--kv", default="16bit", show_default=True, help="KV precisions that it is measured with."
)
@click.option(
    "--eval-tokens",
    type=click.IntRange(min=0),
    default=TOKENS_DEFAULT,
    show_default=True,
    help="Tokens of its own chats that it is measured on; 0 measures nothing.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of those chats.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    out: Path,
    model: str | None,
    scheme: str,
    calibration: Path | None,
    kv: str,
    eval_tokens: int,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Quantize a model into the new folder OUT, which loads without the original."""
    kvs = kv_words(kv)
    from quantchat.paths import expanded
    from quantchat.quant.registry import scheme_named

    name = scheme_named(scheme).name
    chosen, settings = model_and_calibration(model, calibration)
    from quantchat.evals.quantizing import Order, quantize
    from quantchat.evals.subject import open_subject

    subject = open_subject(chosen)
    try:
        with progress() as shown:
            made = quantize(
                subject,
                Order(
                    scheme=name,
                    kvs=kvs,
                    device=device,
                    eval_tokens=eval_tokens,
                    seed=seed,
                    calibration=settings,
                ),
                expanded(out).absolute(),
                on_work=shown.draw,
                cancelled=shown.cancelled,
            )
    finally:
        subject.close()
    if as_json:
        click.echo(json.dumps(_record(made), ensure_ascii=False))
    else:
        _show(made)


def _record(made: Made) -> dict[str, Any]:
    from quantchat.store.quality import as_object

    return {
        "folder": str(made.folder),
        "tensor_bytes": made.nbytes,
        "shards": made.shards,
        "quality": [as_object(one) for one in made.qualities],
        "refused": list(made.refused),
    }


def _show(made: Made) -> None:
    from quantchat.evals.report import line

    files = "1 file" if made.shards == 1 else f"{made.shards} files"
    click.echo(f"{made.folder}: {made.nbytes / 2**20:.1f} MiB of weights in {files}")
    if made.passages is not None:
        click.echo(f"measured on {made.passages.origin}, {made.passages.scored_tokens} tokens:")
    for row in made.rows:
        click.echo(f"  {line(row)}")
    for reason in made.refused:
        click.echo(f"  not run: {reason}")
    shown = f"'{made.folder}'" if " " in str(made.folder) else str(made.folder)
    click.echo(f'load it with: quantchat ask -m {shown} "hi"')
