"""`quantchat bench start`: how long until the first token, from nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from quantchat.cli.bench_words import model_beside, one_line, phase_lines

if TYPE_CHECKING:
    from quantchat.bench.start import StartReport

GIB = 2**30


@click.command("start")
@click.option("--model", "-m", default="", help="Alias, folder or file.  [default: starter]")
@click.option("--shape", default="", help="Random packed weights of a known shape.")
@click.option("--scheme", "-s", default="int4", show_default=True)
@click.option("--kv", default="auto", show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--cold-files",
    is_flag=True,
    help="Drop the weights from the system's file cache before every start (Linux).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON object alone.")
def command(
    model: str,
    shape: str,
    scheme: str,
    kv: str,
    device: str,
    runs: int,
    cold_files: bool,
    as_json: bool,
) -> None:
    """Time from the start of a process to the first token of an answer, in phases.

    Every start is a process of its own that loads the model as the app does and answers a short
    question. One start before them is not counted: it leaves packed weights and compiled kernels on
    disk, where the others find them. Packed weights of a --shape are random and are written to the
    cache folder first. Without --cold-files they come from memory that the system still holds.

    The last line of stdout is one JSON object.
    """
    model = model_beside(shape, model)
    from quantchat.bench.machine import machine_record
    from quantchat.bench.start import StartOptions, measure
    from quantchat.hardware.probe import probe

    options = StartOptions(
        model=model,
        shape=shape,
        scheme=scheme,
        kv=kv,
        device=device,
        runs=runs,
        cold_files=cold_files,
    )
    machine = machine_record(probe())
    report = measure(options, lambda line: click.echo(line, err=True))
    if not as_json:
        for line in lines_of(report):
            click.echo(line)
    click.echo(one_line({"benchmark": "start", "machine": machine, **report.as_record()}))


def lines_of(report: StartReport) -> list[str]:
    """Total and phases, medians with the smallest and the largest."""
    total = report.total_s
    source = "from the packed cache" if report.from_packed else "read from its own files"
    files = "not in memory" if report.cold_files else "held in memory by the system"
    return [
        f"{report.subject}, {report.scheme}, {report.kv} KV on {report.device_name}: "
        f"{report.weight_bytes / GIB:.2f} GiB {source}, files {files}",
        f"first token after {total.median:.2f} s ({total.lowest:.2f}-{total.highest:.2f}), "
        f"{total.samples} starts, a prompt of {report.prompt_tokens} tokens; "
        f"the start before them took {report.first.total_s:.2f} s",
        *phase_lines(report.phases_s),
    ]
