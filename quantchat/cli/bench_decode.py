"""`quantchat bench decode`: speed of decode and prefill, ours and peers', with the limits first."""

from __future__ import annotations

import click

from quantchat.cli.bench_words import model_beside, one_line
from quantchat.cli.choices import SCHEME_HELP
from quantchat.cli.lists import numbers, words
from quantchat.errors import QuantchatError

BUSY_LOAD = 1.0
SCHEMES_HELP = f"Several of {SCHEME_HELP}"
PEER_TIMEOUT_S = 300.0

HELP = """Time decode and prefill, greedy, forced lengths, in one run.

\b
In this order, as it is found:
  what the machine can do at most: read and copy bandwidth, matmul rates,
    the time of a trivial kernel in a graph;
  gates: every kernel against its reference (cards), and each scheme's
    logits, steps through the real runner, against float32 on the same
    stored weights; what is wrong is not timed;
  rows: medians over --runs, with the smallest and the largest.

A step writes one token to each row. Its time is the mean from an answer's second token to its last
(llama.cpp: its own figure, first to last); the first step, which seats the sequence, is left out.
The byte floor is weights as they lie in memory, scales and head included, plus the KV cache of every
row at its mean length, over the measured read bandwidth. Every prompt is read for real before its
decode; time to first token comes from there. Prompts are prose, or random tokens with --shape.

Several values are separated by commas. The last line of stdout is one JSON object with everything.
"""


@click.command("decode", help=HELP)
@click.option("--model", "-m", default="", help="Alias, repository, folder or file.")
@click.option("--shape", default="", help="Random weights of a known shape: llama-3.1-8b, ...")
@click.option("--scheme", "-s", default="fp16,int8,int4", show_default=True, help=SCHEMES_HELP)
@click.option("--kv", default="auto", show_default=True, help="KV precisions; each scheme in each.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--context",
    "--prompt-tokens",
    default="64",
    show_default=True,
    help="Tokens in the cache before the answer, read for real.",
)
@click.option("--rows", default="1", show_default=True, help="Sequences written at once.")
@click.option("--prompt", default="", help="More prompts to take the time to first token of.")
@click.option(
    "--tokens",
    type=click.IntRange(min=3),
    default=128,
    show_default=True,
    help="Length of an answer.",
)
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--peers",
    default="",
    help="transformers, transformers-static, bitsandbytes, torchao, llama.cpp; or all.",
)
@click.option(
    "--peer-timeout",
    type=click.FloatRange(min=1),
    default=PEER_TIMEOUT_S,
    show_default=True,
    help="Seconds that one peer may take in all, loading and compiling included.",
)
@click.option(
    "--kernel-gate/--no-kernel-gate",
    default=True,
    show_default=True,
    help="Check every kernel first; the first time this compiles them all.",
)
@click.option(
    "--tune/--no-tune",
    default=True,
    show_default=True,
    help="Fit linears to a card that has no tiles for them, as the app does at its first load.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON object alone.")
def command(
    model: str,
    shape: str,
    scheme: str,
    kv: str,
    device: str,
    context: str,
    rows: str,
    prompt: str,
    tokens: int,
    runs: int,
    peers: str,
    peer_timeout: float,
    kernel_gate: bool,
    tune: bool,
    as_json: bool,
) -> None:
    """Parse, measure, print."""
    model = model_beside(shape, model)
    names = words(peers, "--peers") if peers else ()
    from quantchat.bench.decode import Options, measure
    from quantchat.bench.machine import load_1m, machine_line, machine_record
    from quantchat.bench.peers import PEERS
    from quantchat.cli.bench_view import report_lines
    from quantchat.hardware.probe import probe

    options = Options(
        model=model,
        shape=shape,
        schemes=words(scheme, "--scheme"),
        kvs=words(kv, "--kv"),
        device=device,
        contexts=numbers(context, "--context"),
        rows=numbers(rows, "--rows"),
        prompts=numbers(prompt, "--prompt") if prompt else (),
        tokens=tokens,
        runs=runs,
        peers=tuple(PEERS) if names == ("all",) else names,
        peer_timeout_s=peer_timeout,
        kernel_gate=kernel_gate,
        tune=tune,
    )
    facts = probe()
    machine = machine_record(facts)
    load = load_1m()
    if load is not None and load > BUSY_LOAD:
        click.echo(f"quantchat: the machine is busy (load {load:.1f}): speeds suffer", err=True)

    def say(line: str) -> None:
        click.echo(line, err=True)

    def show(line: str) -> None:
        click.echo(line, err=as_json)

    report = measure(options, facts, show, say)
    if not as_json:
        click.echo(f"{report.subject} on {machine_line(facts, report.device, report.threads)}")
        click.echo(f"answers of {tokens} tokens, {runs} runs, greedy")
        for line in report_lines(report):
            click.echo(line)
    click.echo(one_line({"benchmark": "decode", "machine": machine, **report.as_record()}))
    if not report.gates_passed:
        raise QuantchatError("something computes wrong results and was not measured: see the gates")
