"""How benchmark results look in a terminal: tables a person can paste."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantchat.bench.record import EngineResult, Report, Row
    from quantchat.bench.stats import Summary

MIB = 2**20
DECODE_HEADINGS = (
    *("engine", "scheme", "KV", "context", "rows", "ms/step (min-max)", "tok/s", "GB/s"),
    *("of floor", "weights MiB", "peak MiB"),
)
PROMPT_HEADINGS = ("engine", "scheme", "KV", "prompt", "first token ms (min-max)", "tok/s")
NAMED = 3
"""Columns of words; the rest are numbers."""


def report_lines(report: Report) -> list[str]:
    """Decode, prompts, and what could not be measured; medians over the runs."""
    measured = [(engine, row) for engine in report.engines for row in engine.rows]
    whole = [(engine, row) for engine, row in measured if not row.problem]
    decode = [_decode_cells(engine, row) for engine, row in whole if row.step_ms is not None]
    prompts = [_prompt_cells(engine, row) for engine, row in whole if row.case.rows == 1]
    lines: list[str] = []
    if decode:
        lines += ["", *_table([DECODE_HEADINGS, *decode])]
    if prompts:
        lines += ["", *_table([PROMPT_HEADINGS, *prompts])]
    problems = [
        f"{engine.engine} {engine.variant}: {engine.problem}"
        for engine in report.engines
        if engine.problem
    ]
    problems += [
        f"{engine.engine} {engine.variant}, {row.case.named()}: {row.problem}"
        for engine, row in measured
        if row.problem
    ]
    return [*lines, *([""] if problems else []), *problems]


def _table(cells: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = []
    for line in cells:
        sized = list(zip(line, widths, strict=True))
        words = [cell.ljust(width) for cell, width in sized[:NAMED]]
        numbers = [cell.rjust(width) for cell, width in sized[NAMED:]]
        lines.append("  ".join((*words, *numbers)).rstrip())
    return lines


def _decode_cells(engine: EngineResult, row: Row) -> tuple[str, ...]:
    assert engine.facts is not None and row.step_ms is not None
    return (
        engine.engine,
        engine.facts.scheme,
        engine.kv,
        str(row.case.context_tokens),
        str(row.case.rows),
        _spread(row.step_ms, 3),
        f"{row.tok_per_s:.1f}",
        f"{row.gb_per_s:.1f}",
        f"{row.floor_share:.0%}",
        f"{engine.facts.read_bytes / MIB:.0f}",
        f"{engine.peak_bytes / MIB:.0f}" if engine.peak_bytes else "-",
    )


def _prompt_cells(engine: EngineResult, row: Row) -> tuple[str, ...]:
    assert engine.facts is not None and row.prefill_ms is not None
    return (
        engine.engine,
        engine.facts.scheme,
        engine.kv,
        str(row.case.context_tokens),
        _spread(row.prefill_ms, 1),
        f"{row.prefill_tok_per_s:.0f}",
    )


def _spread(summary: Summary, digits: int) -> str:
    return f"{summary.median:.{digits}f} ({summary.lowest:.{digits}f}-{summary.highest:.{digits}f})"
