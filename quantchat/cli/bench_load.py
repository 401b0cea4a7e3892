"""`quantchat bench load`: how fast weights come from files in memory to the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from quantchat.cli.bench_words import model_beside, one_line, phase_lines

if TYPE_CHECKING:
    from quantchat.bench.load import LoadReport

GIB = 2**30


@click.command("load")
@click.option("--model", "-m", default="", help="Alias, folder or file.  [default: starter]")
@click.option("--shape", default="", help="Random weights of a known shape, written to disk first.")
@click.option("--scheme", "-s", default="auto", show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--fresh", is_flag=True, help="Round anew each time, not from packed weights.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON object alone.")
def command(
    model: str, shape: str, scheme: str, device: str, runs: int, fresh: bool, as_json: bool
) -> None:
    """Time loads from files that the system holds in memory, beside what these and the bus allow.

    Every load is a process of its own, after one that is not counted. Memory is the host's that is
    no file's: what stays, and the most that there was beside it while loading.

    The last line of stdout is one JSON object.
    """
    model = model_beside(shape, model)
    from quantchat.bench.load import LoadOptions, measure
    from quantchat.bench.machine import machine_record
    from quantchat.hardware.probe import probe

    options = LoadOptions(
        model=model,
        shape=shape,
        scheme=scheme,
        device=device,
        runs=runs,
        fresh=fresh,
    )
    machine = machine_record(probe())
    report = measure(options, lambda line: click.echo(line, err=True))
    if not as_json:
        for line in lines_of(report):
            click.echo(line)
    click.echo(one_line({"benchmark": "load", "machine": machine, **report.as_record()}))


def lines_of(report: LoadReport) -> list[str]:
    """Speeds beside their limits, phases, memory."""
    source = "the packed cache" if report.from_packed else "its own files"
    weights, total = report.weights_s, report.total_s
    limits = f"files in memory are read at {report.cache_bytes_per_s / 1e9:.1f} GB/s"
    if report.link_bytes_per_s is not None:
        limits += f", the card is reached at {report.link_bytes_per_s / 1e9:.1f} GB/s"
    over = report.passing_bytes - report.shard_bytes
    return [
        f"{report.subject}, {report.scheme} on {report.device_name}: "
        f"{report.read_bytes / GIB:.2f} GiB from {source}",
        limits,
        f"weights in {weights.median:.3f} s ({weights.lowest:.3f}-{weights.highest:.3f}): "
        f"{report.bytes_per_s / 1e9:.1f} GB/s, {100 * report.share:.0f} % of the slower",
        f"all in {total.median:.3f} s ({total.lowest:.3f}-{total.highest:.3f}), "
        f"{total.samples} loads",
        *phase_lines(report.phases_s),
        f"host memory: {report.kept_bytes / GIB:.2f} GiB stay, {report.passing_bytes / GIB:.2f} GiB "
        f"beside them at most, {abs(over) / GIB:.2f} GiB {'above' if over > 0 else 'below'} the "
        f"largest file of {report.shard_bytes / GIB:.2f} GiB",
    ]
