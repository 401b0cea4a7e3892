"""`quantchat bench`: decode speed beside peers, kernels alone, and what the screen costs."""

from __future__ import annotations

import json

import click

from quantchat.cli import bench_agree, bench_decode, bench_kernels, bench_start


@click.group("bench")
def command() -> None:
    """Measure speed on this machine; nothing else should run meanwhile."""


command.add_command(bench_decode.command)
command.add_command(bench_agree.command)
command.add_command(bench_kernels.command)
command.add_command(bench_start.command)


@command.command("ui")
@click.option("--model", "-m", default="starter", show_default=True)
@click.option("--scheme", "-s", default="auto", show_default=True)
@click.option("--tokens", type=click.IntRange(min=16), default=256, show_default=True)
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--rate", type=click.FloatRange(min=1), default=100.0, help="tok/s of the scripted answer."
)
@click.option(
    "--only", type=click.Choice(("decode", "conversation")), help="One of the two scenarios."
)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON object alone.")
def ui(
    model: str, scheme: str, tokens: int, runs: int, rate: float, only: str | None, as_json: bool
) -> None:
    """What drawing costs: decode speed beside the app, and event-loop lag while streaming.

    The last line of stdout is one JSON object.
    """
    from quantchat.bench.machine import machine_record
    from quantchat.cli.bench_ui import conversation_cost, decode_cost, lines_of, record_of
    from quantchat.hardware.probe import probe
    from quantchat.settings.model import Settings

    settings = Settings(
        model=model, scheme=scheme, max_tokens=tokens, temperature=0.0, system_prompt=""
    )

    def say(line: str) -> None:
        click.echo(line, err=True)

    machine = machine_record(probe())
    cost = decode_cost(settings, runs, say) if only != "conversation" else None
    long = conversation_cost(settings, rate) if only != "decode" else None
    if not as_json:
        for line in lines_of(cost, long):
            click.echo(line)
    click.echo(json.dumps({"benchmark": "ui", "machine": machine, **record_of(cost, long)}))
