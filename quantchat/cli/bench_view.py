"""How benchmark results look in a terminal: a table a person can paste."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantchat.bench.decode import Row

MIB = 2**20
HEADINGS = (
    *("engine", "scheme", "prefill ms", "tok/s", "decode ms/token", "tok/s", "GB/s"),
    *("of floor", "weights MiB", "peak MiB"),
)


def decode_table(rows: Sequence[Row]) -> list[str]:
    """Lines of the table; medians with p20-p80."""
    cells = [HEADINGS, *(_cells(row) for row in rows if not row.problem)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADINGS))]
    lines = []
    for line in cells:
        named = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        lines.append("  ".join((*named, *numbers)).rstrip())
    lines += [f"{row.engine} {row.variant}: {row.problem}" for row in rows if row.problem]
    return lines


def gate_lines(rows: Sequence[Row]) -> list[str]:
    """What the gate found, a line per scheme of ours."""
    lines = []
    for row in rows:
        gate = row.facts.gate if row.facts is not None else None
        if gate is None:
            continue
        lines.append(
            f"gate {row.variant}: {'passed' if gate.passed else 'FAILED'}, "
            f"KL {gate.kl_mean:.1e}, error {gate.relative_error:.1e} and same top token {gate.same_top_share:.0%} against float32 "
            f"over {gate.positions} positions of {gate.layers} layers, "
            f"greedy regret {gate.worst_regret:.1e}"
        )
    return lines


def _cells(row: Row) -> tuple[str, ...]:
    assert row.facts is not None and row.prefill_ms is not None and row.decode_ms is not None
    prefill, decode = row.prefill_ms, row.decode_ms
    return (
        row.engine,
        row.facts.scheme,
        f"{prefill.median:.1f} ({prefill.p20:.1f}-{prefill.p80:.1f})",
        f"{row.prefill_tok_per_s:.0f}",
        f"{decode.median:.2f} ({decode.p20:.2f}-{decode.p80:.2f})",
        f"{row.decode_tok_per_s:.1f}",
        f"{row.gb_per_s:.1f}",
        f"{row.floor_share:.0%}",
        f"{row.facts.read_bytes / MIB:.0f}",
        f"{row.peak_bytes / MIB:.0f}" if row.peak_bytes else "-",
    )
