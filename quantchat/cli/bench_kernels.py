"""`quantchat bench kernels`: the operations of a decode step alone, on a card."""

from __future__ import annotations

from dataclasses import asdict

import click

from quantchat.cli.bench_words import one_line
from quantchat.cli.lists import numbers, words
from quantchat.errors import PlanError, QuantchatError


@click.command("kernels")
@click.option("--shape", default="llama-3.1-8b", show_default=True, help="A known shape.")
@click.option("--scheme", "-s", default="fp16,int8,int4", show_default=True)
@click.option("--kv", default="16bit,int8", show_default=True)
@click.option("--rows", default="1,2,4,8", show_default=True)
@click.option("--context", default="512,4096,8192", show_default=True, help="For attention.")
@click.option(
    "--gate/--no-gate",
    default=True,
    show_default=True,
    help="Check every kernel first; the first time compiles them all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON object alone.")
def command(
    shape: str, scheme: str, kv: str, rows: str, context: str, gate: bool, as_json: bool
) -> None:
    """Time linears and attention of a shape alone, after the card's limits and the gate.

    Each rotates over more memory than the card's cache holds, inside one CUDA graph; medians with
    the smallest and the largest of 15 replays. The last line of stdout is one JSON object.
    """
    from quantchat.bench.ceilings import ceilings_lines
    from quantchat.bench.machine import machine_line, machine_record
    from quantchat.hardware.probe import probe

    facts = probe()
    if not facts.gpus or facts.software.torch_cuda is None or facts.software.triton is None:
        raise PlanError(
            "kernels run on an NVIDIA card with torch's CUDA build and triton",
            hint="`quantchat probe` says what was found",
        )
    from quantchat.bench.kernel_scope import Scope
    from quantchat.bench.kernels import KernelOptions, measure
    from quantchat.bench.random_model import shape_named
    from quantchat.bench.remote import gate_workers, remote_ceilings, remote_kernel_gate

    spec = shape_named(shape)
    options = KernelOptions(
        device="cuda",
        schemes=words(scheme, "--scheme"),
        kvs=words(kv, "--kv"),
        rows=numbers(rows, "--rows"),
        contexts=numbers(context, "--context"),
    )

    def show(line: str) -> None:
        click.echo(line, err=as_json)

    ceilings = remote_ceilings("cuda", 0)
    show(machine_line(facts, "cuda", 0))
    for line in ceilings_lines(ceilings):
        show(line)
    record: dict[str, object] = {
        "benchmark": "kernels",
        "shape": shape,
        "machine": machine_record(facts),
        "ceilings": asdict(ceilings),
    }
    failures: tuple[str, ...] = ()
    if gate:
        found = remote_kernel_gate(Scope(), gate_workers(facts.gpus[0].free_bytes))
        failures = found.failures
        show(f"gate: {found.cases - len(failures)} of {found.cases} cases agree with the reference")
        for failure in failures:
            show(f"gate: FAILED {failure}")
        record["kernel_gate"] = asdict(found)
    if not failures:
        import torch

        with torch.inference_mode():
            timings = measure(spec, options, facts, ceilings, show)
        record["timings"] = [asdict(timing) for timing in timings]
    click.echo(one_line(record))
    if failures:
        raise QuantchatError("kernels compute wrong results and were not timed: see the gate")
