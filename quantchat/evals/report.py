"""A study as a table for people and as rows for programs; figures that are not finite stand out."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from quantchat import __version__
from quantchat.evals.reference import ReferenceKind
from quantchat.evals.statistics import Estimate, exponential
from quantchat.evals.study import Row, Study
from quantchat.evals.text import Passages
from quantchat.store.quality import Quality

if TYPE_CHECKING:
    from rich.table import Table

METRICS_VERSION = 2
"""Goes up when a figure's definition changes, so that old and new rows are not compared."""


def as_record(study: Study) -> dict[str, Any]:
    """One JSON object: model, text, reference and a flat object for each row."""
    passages = study.passages
    reference = study.reference_perplexity
    return {
        "metrics_version": METRICS_VERSION,
        "model": study.model,
        "identity": study.identity,
        "parameters": study.parameters,
        "text": passages.origin,
        "method": passages.method,
        "text_hash": passages.digest,
        "windows": len(passages.windows),
        "tokens": passages.tokens,
        "scored_tokens": passages.scored_tokens,
        "reference": {
            "what": study.reference,
            "kind": study.reference_kind,
            "cached": study.reference_cached,
            **estimate_record("ppl", reference.ppl),
            **estimate_record("nll", reference.nll),
            "positions": reference.positions,
            "nonfinite_positions": reference.nonfinite_positions,
        },
        "rows": [_row_record(row) for row in study.rows],
        "refused": list(study.refused),
        "stopped": study.stopped,
    }


def _row_record(row: Row) -> dict[str, Any]:
    divergence = row.divergence
    return {
        "scheme": row.scheme,
        "kv": row.kv,
        "group_size": row.group_size,
        "detail": row.detail,
        "calibration": row.calibration,
        "compute_dtype": row.compute_dtype,
        "device": row.device,
        "weight_bytes": row.weight_bytes,
        "bits_per_weight": row.bits_per_weight,
        "kv_bytes_per_token": row.kv_bytes_per_token,
        "held_bytes": row.held_bytes,
        "positions": divergence.positions,
        "nonfinite_positions": divergence.nonfinite_positions,
        **estimate_record("kl_mean", divergence.kl_mean),
        "kl_median": _finite(divergence.kl_median),
        "kl_median_se": _finite(divergence.kl_median_se),
        "kl_p99": _finite(divergence.kl_p99),
        "kl_p99_se": _finite(divergence.kl_p99_se),
        "kl_p999": _finite(divergence.kl_p999),
        "kl_p999_se": _finite(divergence.kl_p999_se),
        "kl_max": _finite(divergence.kl_max),
        **estimate_record("same_top", divergence.same_top),
        **estimate_record("delta_p_mean", divergence.delta_p_mean),
        **estimate_record("delta_p_rms", divergence.delta_p_rms),
        **estimate_record("ppl", row.perplexity.ppl),
        **estimate_record("nll", row.perplexity.nll),
        **estimate_record("ln_ppl_ratio", row.ln_ppl_ratio),
        "score_tok_per_s": row.score_tok_per_s,
    }


def estimate_record(name: str, estimate: Estimate) -> dict[str, float | None]:
    """The figure under `name`, its error under `name` with _se."""
    return {name: _finite(estimate.value), f"{name}_se": _finite(estimate.se)}


def _finite(value: float) -> float | None:
    """JSON knows no NaN; null says that there is no such number."""
    return value if math.isfinite(value) else None


NARROW_COLUMNS = 130
"""Characters of a line below which the columns marked as wide are left out."""
TABLE_COLUMNS = 76
"""Characters of a line below which rows are told in words."""
COLUMNS = (
    ("scheme", "left", False),
    ("KV", "left", False),
    ("bits/w", "right", False),
    ("weights", "right", False),
    ("KL mean", "right", False),
    ("median", "right", True),
    ("99 %", "right", True),
    ("99.9 %", "right", True),
    ("max", "right", True),
    ("same top-1 %", "right", False),
    ("Δp mean %", "right", True),
    ("Δp RMS %", "right", True),
    ("perplexity", "right", False),
)
"""Title, justification, whether only wide tables show it."""


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
        figure(divergence.kl_p99),
        figure(divergence.kl_p999),
        figure(divergence.kl_max),
        plus_minus(divergence.same_top, times=100, digits=2),
        plus_minus(divergence.delta_p_mean, times=100, digits=2),
        plus_minus(divergence.delta_p_rms, times=100, digits=2),
        plus_minus(row.perplexity.ppl, digits=2),
    )


def line(row: Row) -> str:
    """A row in words, for when it is finished."""
    divergence = row.divergence
    return (
        f"{row.scheme}, {row.kv} KV: {row.bits_per_weight:.2f} bits, "
        f"KL {plus_minus(divergence.kl_mean)}, "
        f"same top-1 {plus_minus(divergence.same_top, times=100, digits=2)} %, "
        f"perplexity {plus_minus(row.perplexity.ppl, digits=2)}"
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
    cached = ", its log-probabilities cached" if study.reference_cached else ""
    lines = [
        f"reference: {study.reference}{cached}; perplexity ({study.passages.method}) "
        f"{plus_minus(reference.ppl, digits=3)}",
        "KL in nats, reference || row; ± one standard error, positions taken as independent; "
        "bits per weight and bytes as a card holds them",
    ]
    lines += [f"not run: {reason}" for reason in study.refused]
    lines += [
        f"{row.scheme} with {row.kv} KV: {row.divergence.nonfinite_positions} positions were not "
        "finite and are in no mean"
        for row in study.rows
        if row.divergence.nonfinite_positions
    ]
    if study.stopped:
        lines.append("stopped: only the rows that were finished are shown")
    return lines


def table(study: Study, *, wide: bool = True) -> Table:
    """The study drawn by rich."""
    from rich.table import Table

    drawn = Table(title=heading(study), title_justify="left", caption_justify="left")
    shown = [wide or not only_wide for _, _, only_wide in COLUMNS]
    for (name, justify, _), show in zip(COLUMNS, shown, strict=True):
        if show:
            left = justify == "left"
            drawn.add_column(name, justify="left" if left else "right", no_wrap=left)
    for row in study.rows:
        style = "bold red" if row.divergence.nonfinite_positions else None
        found = [cell for cell, show in zip(cells(row), shown, strict=True) if show]
        drawn.add_row(*found, style=style)
    return drawn


def qualities(study: Study) -> list[Quality]:
    """The rows as they are remembered."""
    return [
        quality(
            row,
            study.passages,
            identity=study.identity,
            model=study.model,
            reference=study.reference_kind,
        )
        for row in study.rows
    ]


def quality(
    row: Row, passages: Passages, *, identity: str, model: str, reference: ReferenceKind
) -> Quality:
    """A row as it is remembered, measured now: a mean that leaves positions out is none."""
    divergence = row.divergence
    whole = not divergence.nonfinite_positions
    return Quality(
        identity=identity,
        model=model,
        scheme=row.scheme,
        group_size=row.group_size,
        kv=row.kv,
        device=row.device,
        calibration=row.calibration,
        reference=reference,
        method=passages.method,
        text=passages.origin,
        text_hash=passages.digest,
        tokens=divergence.positions,
        bits_per_weight=row.bits_per_weight,
        weight_bytes=row.weight_bytes,
        kl_mean=divergence.kl_mean.value if whole else math.nan,
        kl_mean_se=divergence.kl_mean.se,
        same_top=divergence.same_top.value,
        same_top_se=divergence.same_top.se,
        ppl_ratio=exponential(row.ln_ppl_ratio).value,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
    )
