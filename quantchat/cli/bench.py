"""`quantchat bench`: decode speed beside peers, kernels alone, and what the screen costs."""

from __future__ import annotations

import json

import click

from quantchat.errors import QuantchatError, UsageError

BUSY_LOAD = 1.0


@click.group("bench")
def command() -> None:
    """Measure speed on this machine; nothing else should run meanwhile."""


@command.command("decode")
@click.option("--model", "-m", default="", help="Alias, repository, folder or file.")
@click.option("--shape", default="", help="Random weights of a known shape: llama-3.1-8b, ...")
@click.option(
    "--scheme", "-s", default="fp16,int8,int4", show_default=True, help="Several, with commas."
)
@click.option("--kv", default="auto", show_default=True, help="auto, 16bit or int8.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--prompt-tokens", type=click.IntRange(min=2), default=64, show_default=True)
@click.option("--tokens", type=click.IntRange(min=2), default=128, show_default=True)
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--peers", default="", help="transformers, transformers-compiled, llama.cpp.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON object alone.")
def decode(
    model: str,
    shape: str,
    scheme: str,
    kv: str,
    device: str,
    prompt_tokens: int,
    tokens: int,
    runs: int,
    peers: str,
    as_json: bool,
) -> None:
    """Prefill and decode, one sequence, greedy, forced lengths.

    The last line of stdout is one JSON object.
    """
    from quantchat.bench.decode import Options, measure
    from quantchat.bench.machine import load_1m, machine_line, machine_record
    from quantchat.cli.bench_view import decode_table, gate_lines
    from quantchat.hardware.probe import probe

    if model and shape:
        raise UsageError("--model and --shape exclude each other")
    schemes = _words(scheme)
    if not schemes:
        raise UsageError("no scheme is named", hint="--scheme fp16,int8,int4")
    options = Options(
        model=model or ("" if shape else "starter"),
        shape=shape,
        schemes=schemes,
        kv=kv,
        device=device,
        prompt_tokens=prompt_tokens,
        tokens=tokens,
        runs=runs,
        peers=_words(peers),
    )
    facts = probe()
    machine = machine_record(facts)
    load = load_1m()
    if load is not None and load > BUSY_LOAD:
        click.echo(f"quantchat: the machine is busy (load {load:.1f}): speeds suffer", err=True)

    def say(line: str) -> None:
        click.echo(line, err=True)

    report = measure(options, facts, say)
    if not as_json:
        from quantchat.bench.decode import ceilings_line

        click.echo(f"{report.subject} on {machine_line(facts, report.device, report.threads)}")
        click.echo(ceilings_line(report.ceilings))
        click.echo(
            f"prompt {prompt_tokens} tokens, answer {tokens}, {runs} rounds, batch 1, greedy"
        )
        for line in (*gate_lines(report.rows), "", *decode_table(report.rows)):
            click.echo(line)
    click.echo(json.dumps({"benchmark": "decode", "machine": machine, **report.as_record()}))
    if not report.gates_passed:
        raise QuantchatError("a scheme computes wrong logits, its speed was not measured")


@command.command("kernels")
def kernels() -> None:
    """GPU kernels alone: checked, then timed."""
    from quantchat.bench.kernels import main

    if main():
        raise QuantchatError("the kernels were not measured", hint="see the lines above")


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


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
