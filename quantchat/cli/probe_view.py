"""How `quantchat probe` looks in a terminal.

Owns the drawing of facts and plan; decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from quantchat.hardware.facts import Facts, GpuFacts
from quantchat.hardware.holding import held_words
from quantchat.hardware.memory import GIB, MIB, MemoryFit, decode_read_bytes
from quantchat.hardware.offers import Offer
from quantchat.hardware.plan import ExecutionPlan
from quantchat.hardware.specs import specs_of
from quantchat.hardware.speed import SPEED_CONTEXT_TOKENS
from quantchat.quant.registry import SCHEMES

if TYPE_CHECKING:
    from quantchat.cli.probe import Subject
    from quantchat.tui.control.fits import Fits

VERDICTS = {
    "fits": ("fits", "green"),
    "tight": ("fits, with little to spare", "yellow"),
    "too_large": ("does not fit", "red"),
}


def show(
    facts: Facts,
    subject: Subject,
    made: ExecutionPlan | None,
    found: tuple[Offer, ...],
    fits: Fits,
) -> None:
    """Print all of it."""
    console = Console(highlight=False)
    _machine(console, facts)
    console.print()
    title = f"{subject.name}, {subject.spec.parameters / 1e9:.2f} billion weights"
    if subject.origin == "shape":
        title += " (shape only, not on disk)"
    elif subject.origin == "hub":
        title += " (on the hub)"
    _heading(console, f"Plan for {title}")
    if made is None:
        _contexts(console, fits)
        _schemes(console, found)
        return
    _decisions(console, facts, subject, made)
    _ops(console, made)
    _memory(console, made.fit)
    _contexts(console, fits)
    _sentences(console, "Reasons", made.reasons)
    _sentences(console, "Refused", made.refused)
    _schemes(console, found)


def _schemes(console: Console, found: tuple[Offer, ...]) -> None:
    """All of the table; where every one is refused alike the plan's own error says it."""
    if len({offer.refusal for offer in found}) == 1 and found[0].refusal:
        return
    _heading(console, "\nSchemes, predicted")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("scheme")
    for column in ("weights", "KV cache", "tok/s"):
        table.add_column(column, justify="right")
    table.add_column("", overflow="fold")
    for offer in found:
        if offer.plan is None:
            why = Text(f"refused: {offer.refusal}", style="dim")
            table.add_row(Text(offer.scheme.name, style="dim"), "", "", "", why)
            continue
        fit = offer.plan.fit
        rate = "?" if offer.tok_per_s is None else f"~{offer.tok_per_s:,.0f}"
        notes = (
            held_words(offer.scheme, sm=offer.sm, triton=offer.plan.triton),
            "calibrated at the first load" if offer.scheme.calibration != "none" else "",
        )
        note = ", ".join(word for word in notes if word)
        table.add_row(
            offer.scheme.name, size(fit.weight_bytes), size(fit.kv_bytes), rate, Text(note)
        )
    console.print(table)
    words = f"tok/s: one sequence behind {SPEED_CONTEXT_TOKENS} tokens"
    if any(offer.plan is not None and offer.tok_per_s is None for offer in found):
        words += "; ?: nothing is known of how fast this device reads"
    console.print(Text(words, style="dim"))


def _contexts(console: Console, fits: Fits) -> None:
    """What each context would come to; measured figures are marked."""
    if not fits.fits:
        return
    _heading(console, f"\nContexts in {fits.scheme} with {fits.kv} KV")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("context", "weights", "KV cache", "workspace", "load peak", "tok/s"):
        table.add_column(column, justify="right")
    table.add_column("")
    for fit in fits.fits:
        figures = {
            "weight_bytes": fit.weight_bytes,
            "kv_bytes": fit.kv_bytes,
            "workspace_bytes": fit.workspace_bytes,
            "load_peak_bytes": fit.load_peak_bytes,
        }
        sizes = (
            f"{size(count)}{'*' if name in fit.measured else ''}" for name, count in figures.items()
        )
        rate = "?" if fit.tok_per_s is None else f"~{fit.tok_per_s:,.0f}"
        if "tok_per_s" in fit.measured:
            rate = f"{rate.removeprefix('~')}*"
        word, colour = VERDICTS[fit.verdict]
        table.add_row(f"{fit.context_tokens}", *sizes, rate, Text(word, style=colour))
    console.print(table)
    words = [f"the longest that fits: {fits.longest_context_tokens} tokens"]
    if fits.reencoded:
        words.append(fits.reencoded)
    if any(fit.measured for fit in fits.fits):
        words.append("*: measured here before")
    console.print(Text("; ".join(words), style="dim"))


def size(count: int) -> str:
    """Bytes for people, in binary units."""
    return f"{count / GIB:.2f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def _machine(console: Console, facts: Facts) -> None:
    _heading(console, "Machine")
    table = _grid()
    for gpu in facts.gpus:
        table.add_row(f"gpu {gpu.index}", _gpu_line(gpu))
    if not facts.gpus:
        table.add_row("gpu", "none")
    cpu = facts.cpu
    table.add_row(
        "cpu",
        f"{cpu.name}, {cpu.physical_cores} cores ({cpu.logical_cores} threads), "
        f"{' '.join(sorted(cpu.isa)) or 'no known vector extensions'}",
    )
    table.add_row("memory", f"{size(cpu.ram_free_bytes)} free of {size(cpu.ram_total_bytes)}")
    software = facts.software
    cuda = f" (CUDA {software.torch_cuda})" if software.torch_cuda else " (no CUDA)"
    table.add_row(
        "software",
        f"Python {software.python} on {software.system}, "
        f"torch {software.torch or 'missing'}{cuda if software.torch else ''}, "
        f"triton {software.triton or 'missing'}, "
        f"transformers {software.transformers or 'missing'}, "
        f"textual {software.textual or 'missing'}",
    )
    for note in facts.notes:
        table.add_row("note", note)
    console.print(table)


def _gpu_line(gpu: GpuFacts) -> str:
    line = (
        f"{gpu.name}, SM {gpu.sm}, {gpu.sm_count or '?'} multiprocessors, "
        f"{size(gpu.free_bytes)} free of {size(gpu.total_bytes)}, driver {gpu.driver}"
    )
    known = specs_of(gpu)
    return line if known is None else f"{line}, {known.gb_per_s:.0f} GB/s by its data sheet"


def _decisions(console: Console, facts: Facts, subject: Subject, made: ExecutionPlan) -> None:
    table = _grid()
    device = f"{made.device}, {made.device_name}"
    table.add_row(
        "device", device if made.device == "cuda" else f"{device}, {made.threads} threads"
    )
    group = f", group {made.group_size}" if made.group_size else ""
    table.add_row("scheme", f"{made.scheme.title}{group}, computing in {made.compute_dtype}")
    table.add_row("KV cache", f"{made.kv}, pages of {made.page_tokens} tokens")
    table.add_row(
        "context",
        f"{made.context_tokens} tokens, prompts in chunks of {made.prefill_chunk_tokens}",
    )
    if made.device == "cuda":
        table.add_row(
            "launch",
            f"{'CUDA graph' if made.graph else 'no CUDA graph'} for decode"
            + (", card knows dependent launch" if made.dependent_launch else ""),
        )
        floor = _floor(facts, subject, made)
        if floor:
            table.add_row("ceiling", floor)
    console.print(table)


def _floor(facts: Facts, subject: Subject, made: ExecutionPlan) -> str:
    known = specs_of(next(gpu for gpu in facts.gpus if gpu.index == made.gpu_index))
    if known is None:
        return ""
    held = made.scheme if made.triton else SCHEMES["fp16"]
    read = decode_read_bytes(
        subject.spec, held, made.group_size, stored_bytes=subject.request.stored_bytes
    )
    rate = known.gb_per_s * 1e9 / read
    return f"{rate:.0f} tok/s: {size(read)} of weights per token at {known.gb_per_s:.0f} GB/s"


def _ops(console: Console, made: ExecutionPlan) -> None:
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("op", "rows", "kernel", "why"):
        table.add_column(column, overflow="fold")
    for choice in made.ops:
        table.add_row(choice.op, choice.rows, choice.kernel, Text(choice.reason, style="dim"))
    console.print(table)


def _memory(console: Console, fit: MemoryFit) -> None:
    _heading(console, "\nMemory, estimated")
    table = _grid()
    table.add_row("weights", size(fit.weight_bytes))
    if fit.copy_bytes:
        table.add_row("copies", f"{size(fit.copy_bytes)} for prefill")
    table.add_row(
        "KV cache",
        f"{size(fit.kv_bytes)} for {fit.context_tokens} tokens, {fit.kv_bytes_per_token} bytes each",
    )
    table.add_row("workspace", size(fit.workspace_bytes))
    table.add_row("load peak", size(fit.load_peak_bytes))
    table.add_row("free now", f"{size(fit.free_bytes)} of {size(fit.total_bytes)}")
    table.add_row("longest", f"{fit.longest_context_tokens} tokens of context fit")
    word, colour = VERDICTS[fit.verdict]
    table.add_row("verdict", Text(f"{size(fit.needed_bytes)} needed: {word}", style=colour))
    console.print(table)


def _sentences(console: Console, title: str, sentences: tuple[str, ...]) -> None:
    if not sentences:
        return
    _heading(console, f"\n{title}")
    for sentence in sentences:
        console.print(Text(f"  {sentence}"))


def _heading(console: Console, title: str) -> None:
    console.print(Text(title, style="bold"))


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    return table
