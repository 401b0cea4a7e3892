"""A study as a table for people and as rows for programs; figures that are not finite stand out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from quantchat.evals.statistics import Estimate
from quantchat.evals.study import Row, Study

if TYPE_CHECKING:
    from rich.table import Table

METRICS_VERSION = 1
"""Goes up when a figure's definition changes, so that old and new rows are not compared."""


def as_record(study: Study) -> dict[str, Any]:
    """One JSON object: model, text, reference and a flat object for each row."""
    passages = study.passages
    reference = study.reference_perplexity
    return {
        "metrics_version": METRICS_VERSION,
        "model": study.model,
        "parameters": study.parameters,
        "text": passages.origin,
        "method": passages.method,
        "windows": len(passages.windows),
        "tokens": passages.tokens,
        "scored_tokens": passages.scored_tokens,
        "reference": {
            "what": study.reference,
            **_estimate("ppl", reference.ppl),
            **_estimate("nll", reference.nll),
            "positions": reference.positions,
            "nonfinite_positions": reference.nonfinite_positions,
        },
        "rows": [_row_record(row) for row in study.rows],
        "refused": list(study.refused),
    }


def _row_record(row: Row) -> dict[str, Any]:
    divergence = row.divergence
    return {
        "scheme": row.scheme,
        "kv": row.kv,
        "detail": row.detail,
        "compute_dtype": row.compute_dtype,
        "device": row.device,
        "weight_bytes": row.weight_bytes,
        "bits_per_weight": row.bits_per_weight,
        "kv_bytes_per_token": row.kv_bytes_per_token,
        "positions": divergence.positions,
        "nonfinite_positions": divergence.nonfinite_positions,
        **_estimate("kl_mean", divergence.kl_mean),
        "kl_median": _finite(divergence.kl_median),
        "kl_p99": _finite(divergence.kl_p99),
        "kl_p999": _finite(divergence.kl_p999),
        "kl_max": _finite(divergence.kl_max),
        **_estimate("same_top", divergence.same_top),
        **_estimate("delta_p_mean", divergence.delta_p_mean),
        **_estimate("delta_p_rms", divergence.delta_p_rms),
        **_estimate("ppl", row.perplexity.ppl),
        **_estimate("nll", row.perplexity.nll),
        **_estimate("ln_ppl_ratio", row.ln_ppl_ratio),
        "score_tok_per_s": row.score_tok_per_s,
    }


def _estimate(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: _finite(estimate.value), f"{name}_se": _finite(estimate.se)}


def _finite(value: float) -> float | None:
    """JSON knows no NaN; null says that there is no such number."""
    return value if math.isfinite(value) else None


COLUMNS = (
    ("scheme", "left"),
    ("KV", "left"),
    ("bits/w", "right"),
    ("weights", "right"),
    ("KL mean", "right"),
    ("median", "right"),
    ("99.9 %", "right"),
    ("max", "right"),
    ("same top-1 %", "right"),
    ("Δp RMS %", "right"),
    ("perplexity", "right"),
)


def cells(row: Row) -> tuple[str, ...]:
    """A row's figures in the order of COLUMNS."""
    divergence = row.divergence
    return (
        row.scheme,
        row.kv,
        f"{row.bits_per_weight:.2f}",
        f"{row.weight_bytes / 2**20:.1f} MiB",
        plus_minus(divergence.kl_mean),
        figure(divergence.kl_median),
        figure(divergence.kl_p999),
        figure(divergence.kl_max),
        plus_minus(divergence.same_top, times=100, digits=2),
        plus_minus(divergence.delta_p_rms, times=100, digits=2),
        plus_minus(row.perplexity.ppl, digits=3),
    )


def figure(value: float) -> str:
    """Three significant digits, plain down to 0.0001."""
    if not math.isfinite(value):
        return "n/a"
    return f"{value:.3g}" if value == 0 or abs(value) >= 1e-4 else f"{value:.1e}"


def plus_minus(estimate: Estimate, *, times: float = 1, digits: int | None = None) -> str:
    """A figure with its standard error."""
    value, error = estimate.value * times, estimate.se * times
    if not math.isfinite(value):
        return "n/a"
    if digits is None:
        return f"{figure(value)} ± {figure(error)}"
    return f"{value:.{digits}f} ± {error:.{digits}f}" if math.isfinite(error) else f"{value:.3g}"


def heading(study: Study) -> str:
    """What was measured, in one line."""
    passages = study.passages
    return (
        f"{study.model} on {passages.origin}: {passages.method} method, "
        f"{len(passages.windows)} windows, {passages.scored_tokens} scored tokens"
    )


def notes(study: Study) -> list[str]:
    """Lines for below the table: the reference, what was refused, what was not finite."""
    reference = study.reference_perplexity
    lines = [
        f"reference: {study.reference}, perplexity {plus_minus(reference.ppl, digits=3)}; "
        "KL in nats, reference || row; ± one standard error, positions taken as independent"
    ]
    lines += [f"not run: {line}" for line in study.refused]
    lines += [
        f"{row.scheme} with {row.kv} KV: {row.divergence.nonfinite_positions} positions were not "
        "finite and are in no mean"
        for row in study.rows
        if row.divergence.nonfinite_positions
    ]
    return lines


def table(study: Study) -> Table:
    """The study drawn by rich."""
    from rich.table import Table

    drawn = Table(title=heading(study), title_justify="left", caption_justify="left")
    for name, justify in COLUMNS:
        drawn.add_column(name, justify="left" if justify == "left" else "right", no_wrap=True)
    for row in study.rows:
        style = "bold red" if row.divergence.nonfinite_positions else None
        drawn.add_row(*cells(row), style=style)
    return drawn
