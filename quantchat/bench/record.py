"""What a benchmark of decoding has found: cases, rows, engines, the whole report.

Owns how a row's figures follow from the times of its runs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from quantchat.bench.accounting import floor_s, step_bytes
from quantchat.bench.ceilings import Ceilings
from quantchat.bench.contest import EngineFacts, RunTimes
from quantchat.bench.stats import Summary, percentile, summarize

CaseKind: TypeAlias = Literal["decode", "prompt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that every engine is asked to do."""

    kind: CaseKind
    context_tokens: int
    """Prompt read before the first token, for each row."""
    rows: int
    """Sequences written at once."""
    tokens: int
    """Written to each row; 1 where only the prompt is timed."""

    def named(self) -> str:
        """In words."""
        rows = f", {self.rows} rows" if self.rows > 1 else ""
        what = "prompt" if self.kind == "prompt" else "decode at"
        return f"{what} {self.context_tokens} tokens{rows}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One engine on one case; `problem` says why there are no figures."""

    case: Case
    problem: str = ""
    prefill_ms: Summary | None = None
    """Prompt to first token, all rows."""
    prefill_tok_per_s: float = 0.0
    step_ms: Summary | None = None
    """A token for each row, mean of a run; over runs. None where only the prompt was timed."""
    tok_per_s: float = 0.0
    """Of all rows together."""
    itl_p50_ms: float | None = None
    itl_p95_ms: float | None = None
    itl_max_ms: float | None = None
    """Single steps of all runs; None where the engine does not tell."""
    step_bytes: float = 0.0
    """Weights read, scales and head included, and the cache of every row at its mean length."""
    gb_per_s: float = 0.0
    """Those bytes over the median step."""
    floor_ms: float = 0.0
    """Least time for those bytes at the measured read bandwidth."""
    floor_share: float = 0.0
    """`floor_ms` over the median step."""
    first_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineResult:
    """One engine with one scheme and KV precision; `problem` says why it was not measured."""

    engine: str
    variant: str
    kv: str
    problem: str = ""
    facts: EngineFacts | None = None
    peak_bytes: int = 0
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelGate:
    """Every kernel against its torch reference."""

    cases: int
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole run."""

    subject: str
    device: str
    threads: int
    runs: int
    ceilings: Ceilings
    kernel_gate: KernelGate | None
    """None on the CPU, which has no kernels of ours, and where it was not asked for."""
    engines: tuple[EngineResult, ...]

    @property
    def gates_passed(self) -> bool:
        """Whether no kernel and no scheme of ours was wrong."""
        gates = [engine.facts.gate for engine in self.engines if engine.facts is not None]
        kernels = self.kernel_gate is None or not self.kernel_gate.failures
        return kernels and all(gate.passed for gate in gates if gate is not None)

    def as_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def make_row(case: Case, facts: EngineFacts, times: list[RunTimes], ceilings: Ceilings) -> Row:
    """A row from the runs of an engine, one at least."""
    prefill = summarize([run.prefill_s * 1e3 for run in times])
    prompt = Row(
        case=case,
        prefill_ms=prefill,
        prefill_tok_per_s=case.rows * case.context_tokens / prefill.median * 1e3,
        first_ids=times[0].first_ids,
    )
    if case.kind == "prompt":
        return prompt
    step = summarize([run.decode_s * 1e3 / run.decode_steps for run in times])
    gaps_ms = [gap * 1e3 for run in times for gap in run.gaps_s]
    moved = step_bytes(
        facts.read_bytes,
        facts.kv_bytes_per_token,
        case.context_tokens,
        first_step=times[0].first_step,
        decode_steps=times[0].decode_steps,
        rows=case.rows,
    )
    floor_ms = floor_s(moved, ceilings.read_gb_per_s) * 1e3
    return Row(
        case=case,
        prefill_ms=prefill,
        prefill_tok_per_s=prompt.prefill_tok_per_s,
        step_ms=step,
        tok_per_s=case.rows / step.median * 1e3,
        itl_p50_ms=percentile(gaps_ms, 0.5) if gaps_ms else None,
        itl_p95_ms=percentile(gaps_ms, 0.95) if gaps_ms else None,
        itl_max_ms=max(gaps_ms) if gaps_ms else None,
        step_bytes=moved,
        gb_per_s=moved / step.median / 1e6,
        floor_ms=floor_ms,
        floor_share=floor_ms / step.median,
        first_ids=times[0].first_ids,
    )
