"""`quantchat bench agree`: is the path that answers run right, on this device?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from quantchat.cli.bench_words import one_line
from quantchat.cli.eval_words import WorkLines
from quantchat.cli.lists import words
from quantchat.errors import QuantchatError, UsageError

if TYPE_CHECKING:
    from quantchat.evals.agreement import Agreement
    from quantchat.evals.divergence import Divergence


@click.command("agree")
@click.option("--model", "-m", default="starter", show_default=True, help="Alias, folder or file.")
@click.option("--scheme", "-s", default="auto", show_default=True, help="Schemes, by commas.")
@click.option("--kv", default="16bit", show_default=True, help="KV precisions, by commas.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--prompts", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--tokens", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--check", is_flag=True, help="Exit with 1 where a limit is passed.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON object alone.")
def command(
    model: str,
    scheme: str,
    kv: str,
    device: str,
    prompts: int,
    tokens: int,
    check: bool,
    as_json: bool,
) -> None:
    """Compare the decode steps that answers run with plain torch in float32.

    The reference, on the same device and the same stored weights, writes greedy answers to chat
    prompts. The engine's own runner (on a card its CUDA graph and kernels) is led along the same
    tokens, one row a step, and its logits are compared at every step: KL divergence and the
    likeliest token. On a card a second figure says what the number format alone costs: plain torch
    in the plan's 16 bits. Limits: mean KL below 0.001, same top token above 99 %.

    With a KV cache below 16 bits both sides keep rounded keys and values; one at the edge of two
    codes may fall to either side, so the limits are for 16-bit KV and the second figure is what to
    compare with.

    The last line of stdout is one JSON object.
    """
    from quantchat.evals.agreement import agree
    from quantchat.evals.prompts import PROMPTS
    from quantchat.evals.subject import open_subject
    from quantchat.hardware.probe import probe

    if prompts > len(PROMPTS):
        raise UsageError(f"there are {len(PROMPTS)} prompts", hint=f"--prompts {len(PROMPTS)}")
    schemes, kvs = words(scheme, "--scheme"), words(kv, "--kv")
    found: list[Agreement] = []
    subject = open_subject(model)
    try:
        for name in schemes:
            for precision in kvs:
                found.append(
                    agree(
                        subject,
                        PROMPTS[:prompts],
                        scheme=name,
                        kv=precision,
                        device=device,
                        tokens=tokens,
                        on_work=WorkLines(),
                        cancelled=lambda: False,
                    )
                )
                if not as_json:
                    for line in lines_of(found[-1]):
                        click.echo(line)
    finally:
        subject.close()
    from quantchat.bench.machine import machine_record

    rows = [{**asdict(row), "passed": row.passed} for row in found]
    click.echo(one_line({"benchmark": "agree", "machine": machine_record(probe()), "rows": rows}))
    if check and not all(row.passed for row in found):
        raise QuantchatError("the steps are further from the reference than the limits allow")


def lines_of(found: Agreement) -> list[str]:
    """A comparison in words."""
    path = "captured steps" if found.captured else "steps"
    lines = [
        f"{found.model}, {found.detail}, {found.kv} KV, {found.compute_dtype} on {found.device}: "
        f"{'within' if found.passed else 'BEYOND'} the limits",
        f"  {path}: {_divergence(found.steps)}; same top token {found.same_top} of "
        f"{found.steps.positions}; {found.whole_answers} of {found.prompts} answers equal to the "
        f"last of {found.tokens} tokens",
    ]
    if found.plain is not None:
        lines.append(
            f"  plain torch in {found.compute_dtype}: {_divergence(found.plain)}; "
            f"same top token {found.plain.same_top.value:.2%}"
        )
    return lines


def _divergence(found: Divergence) -> str:
    bad = f", {found.nonfinite_positions} steps not finite" if found.nonfinite_positions else ""
    return (
        f"KL mean {found.kl_mean.value:.2e}, 99 % {found.kl_p99:.2e}, max {found.kl_max:.2e}{bad}"
    )
