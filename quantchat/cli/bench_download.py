"""`quantchat bench download`: the downloader beside curl, from loopback."""

from __future__ import annotations

import json
from pathlib import Path

import click

MIB = 2**20


@click.command("download")
@click.option("--mib", type=click.IntRange(min=1), default=1024, show_default=True, help="Size.")
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where to write; twice the size is needed.  [default: the temporary folder]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON object alone.")
def command(mib: int, runs: int, folder: Path | None, as_json: bool) -> None:
    """Time one file from this machine to itself, checked on the way, beside plain curl."""
    from quantchat.bench.download import measure

    report = measure(mib * MIB, runs, folder)
    told = {
        "size_bytes": report.size_bytes,
        "own_s": report.own_s,
        "curl_s": report.curl_s,
        "ratio": report.ratio,
        "added_bytes": report.added_bytes,
    }
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"own   {report.size_bytes / report.own_s / 1e6:8.0f} MB/s, sha256 checked")
    if report.curl_s:
        click.echo(f"curl  {report.size_bytes / report.curl_s / 1e6:8.0f} MB/s")
        click.echo(f"ratio {report.ratio:8.2f}")
    click.echo(f"memory above idle: {report.added_bytes / MIB:.0f} MiB")
