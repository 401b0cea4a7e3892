"""`quantchat bench`: decode speed beside peers, kernels alone, and what the screen costs."""

from __future__ import annotations

import click

from quantchat.cli import (
    bench_agree,
    bench_decode,
    bench_download,
    bench_kernels,
    bench_load,
    bench_start,
    bench_ui,
)


@click.group("bench")
def command() -> None:
    """Measure speed on this machine; nothing else should run meanwhile."""


command.add_command(bench_decode.command)
command.add_command(bench_agree.command)
command.add_command(bench_kernels.command)
command.add_command(bench_start.command)
command.add_command(bench_load.command)
command.add_command(bench_ui.command)
command.add_command(bench_download.command)
