"""Prefill and decode speed of our schemes and of peers, in one run, in turns.

Owns the order of things: ceilings, loading, gates, warm-up, then rounds in which every engine runs
once, so that drift of the machine meets all alike. Each engine lives in its own process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from quantchat.bench.accounting import floor_share, step_bytes
from quantchat.bench.ceilings import Ceilings
from quantchat.bench.contest import EngineFacts, EngineKind, Job, RunTimes
from quantchat.bench.own import SPARE_TOKENS, Subject, check_context, open_subject
from quantchat.bench.remote import RemoteEngine, remote_ceilings
from quantchat.bench.stats import Summary, percentile, summarize
from quantchat.engine.loading import plan_request, read_tokenizer
from quantchat.errors import QuantchatError, UsageError
from quantchat.hardware.facts import Facts
from quantchat.hardware.plan import plan as make_plan
from quantchat.requests import LoadRequest

PEERS: dict[str, tuple[EngineKind, str, tuple[str, ...]]] = {
    "transformers": ("transformers", "transformers", ("bf16", "fp32")),
    "transformers-compiled": ("transformers", "transformers", ("bf16-compiled",)),
    "llama.cpp": ("llama.cpp", "xllamacpp", ("file",)),
}
"""Name on the command line -> engine, module that must be there, variants."""
GATE_TOKENS = 24
WARM_TOKENS = 8
SETTLE_S = 0.25
"""Threads of the engine before spin this long for more work before they sleep."""
PROSE = (
    "The lighthouse stood at the end of a long stone wall, and every evening its keeper climbed the "
    "stairs with a can of oil and a book. Ships passed far out, carrying grain, timber and letters; "
    "he wrote down their names, the weather and the hour. When the fog came in he rang a bell until "
    "his arms were tired, and then he counted seconds between the waves to stay awake. "
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to measure."""

    model: str
    shape: str
    schemes: tuple[str, ...]
    kv: str
    device: str
    prompt_tokens: int
    tokens: int
    runs: int
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One engine's result; `problem` says why there is none."""

    engine: str
    variant: str
    problem: str = ""
    facts: EngineFacts | None = None
    prefill_ms: Summary | None = None
    prefill_tok_per_s: float = 0.0
    decode_ms: Summary | None = None
    """Per token, over runs."""
    decode_tok_per_s: float = 0.0
    itl_p50_ms: float | None = None
    itl_p95_ms: float | None = None
    gb_per_s: float = 0.0
    """Weight and KV bytes of a step over its time."""
    floor_share: float = 0.0
    """Least time for those bytes at the measured read bandwidth, over the time taken."""
    peak_bytes: int = 0
    first_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole run."""

    subject: str
    device: str
    threads: int
    ceilings: Ceilings
    rows: tuple[Row, ...]

    @property
    def gates_passed(self) -> bool:
        """Whether no scheme of ours was wrong."""
        gates = [row.facts.gate for row in self.rows if row.facts is not None]
        return all(gate.passed for gate in gates if gate is not None)

    def as_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure(options: Options, facts: Facts, say: Callable[[str], None]) -> Report:
    """Run it all; `say` gets a line as things happen. Raises QuantchatError where nothing can run."""
    subject = open_subject(options.model, options.shape)
    try:
        spec = subject.source.spec
        check_context(options.prompt_tokens, options.tokens, spec)
        first = LoadRequest(
            model=options.model or options.shape, scheme=options.schemes[0], device=options.device
        )
        plan = make_plan(facts, spec, plan_request(first, subject.source))
        prompt = prompt_ids(subject, options.prompt_tokens)
    finally:
        subject.source.close()
    ceilings = remote_ceilings(plan.device, plan.threads)
    say(ceilings_line(ceilings))
    jobs = _jobs(options, plan.device, plan.threads, tuple(prompt[:GATE_TOKENS]))
    rows: dict[int, Row] = {}
    times: dict[int, list[RunTimes]] = {}
    with contextlib.ExitStack() as stack:
        engines: dict[int, RemoteEngine] = {}
        for n, (job, missing) in enumerate(jobs):
            if missing:
                rows[n] = Row(engine=job.kind, variant=job.variant, problem=missing)
                continue
            say(f"loading {job.kind} {job.variant}")
            try:
                engine = stack.enter_context(RemoteEngine(job))
            except QuantchatError as error:
                rows[n] = Row(engine=job.kind, variant=job.variant, problem=str(error))
                continue
            gate = engine.facts.gate
            if gate is not None and not gate.passed:
                rows[n] = Row(
                    engine=job.kind,
                    variant=job.variant,
                    facts=engine.facts,
                    problem=f"wrong: KL {gate.kl_mean:.2g} to the reference, relative error "
                    f"{gate.relative_error:.2g}, same top token "
                    f"{gate.same_top_share:.0%}, regret {gate.worst_regret:.2g}",
                )
                continue
            engines[n], times[n] = engine, []
        for engine in engines.values():
            engine.run(prompt, min(WARM_TOKENS, options.tokens))
        for turn in range(options.runs):
            say(f"round {turn + 1} of {options.runs}")
            for n, engine in engines.items():
                time.sleep(SETTLE_S)
                times[n].append(engine.run(prompt, options.tokens))
        for n, engine in engines.items():
            rows[n] = make_row(
                engine.job, engine.facts, times[n], engine.peak_bytes(), len(prompt), ceilings
            )
    return Report(
        subject=subject.name,
        device=plan.device,
        threads=plan.threads,
        ceilings=ceilings,
        rows=tuple(rows[n] for n in sorted(rows)),
    )


def make_row(
    job: Job,
    facts: EngineFacts,
    times: list[RunTimes],
    peak_bytes: int,
    prompt_tokens: int,
    ceilings: Ceilings,
) -> Row:
    """A row from the runs of an engine."""
    prefill = summarize([run.prefill_s * 1e3 for run in times])
    decode = summarize([run.decode_s * 1e3 / run.decode_steps for run in times])
    gaps_ms = [gap * 1e3 for run in times for gap in run.gaps_s]
    moved = step_bytes(
        facts.read_bytes, facts.kv_bytes_per_token, prompt_tokens, times[0].decode_steps
    )
    step_s = decode.median / 1e3
    return Row(
        engine=job.kind,
        variant=job.variant,
        facts=facts,
        prefill_ms=prefill,
        prefill_tok_per_s=prompt_tokens / prefill.median * 1e3,
        decode_ms=decode,
        decode_tok_per_s=1 / step_s,
        itl_p50_ms=percentile(gaps_ms, 0.5) if gaps_ms else None,
        itl_p95_ms=percentile(gaps_ms, 0.95) if gaps_ms else None,
        gb_per_s=moved / step_s / 1e9,
        floor_share=floor_share(moved, step_s, ceilings.read_gb_per_s),
        peak_bytes=peak_bytes,
        first_ids=times[0].first_ids,
    )


def prompt_ids(subject: Subject, count: int) -> list[int]:
    """The same `count` tokens for every engine: prose, or random ids where nothing can be read."""
    if subject.random:
        draw = random.Random(20)
        return [draw.randrange(subject.source.spec.vocab) for _ in range(count)]
    tokenizer = read_tokenizer(subject.source, subject.source.checkpoint.path)
    ids = tokenizer.encode(PROSE, add_bos=tokenizer.adds_bos)
    while len(ids) < count:
        ids += tokenizer.encode(PROSE, add_bos=False)
    return ids[:count]


def _jobs(
    options: Options, device: str, threads: int, gate_ids: tuple[int, ...]
) -> list[tuple[Job, str]]:
    """Jobs, each with what is missing for it."""

    def job(kind: EngineKind, variant: str, gate: tuple[int, ...]) -> Job:
        return Job(
            kind=kind,
            variant=variant,
            model=options.model,
            shape=options.shape,
            kv=options.kv,
            device=device,
            threads=threads,
            context_tokens=options.prompt_tokens + options.tokens + SPARE_TOKENS,
            gate_ids=gate,
        )

    jobs = [(job("quantchat", scheme, gate_ids), "") for scheme in options.schemes]
    for peer in options.peers:
        if peer not in PEERS:
            raise UsageError(f"unknown peer {peer!r}", hint=f"one of: {', '.join(PEERS)}")
        kind, module, variants = PEERS[peer]
        missing = "" if importlib.util.find_spec(module) else f"not installed ({module})"
        jobs += [(job(kind, variant, ()), missing) for variant in variants]
    return jobs


def ceilings_line(ceilings: Ceilings) -> str:
    """The machine's limits in a line."""
    parts = [f"reads {ceilings.read_gb_per_s:.1f} GB/s"]
    if ceilings.fp32_gflops is not None:
        parts.append(f"fp32 products {ceilings.fp32_gflops:.0f} GFLOP/s")
    if ceilings.bf16_gflops is not None:
        parts.append(f"bf16 products {ceilings.bf16_gflops:.0f} GFLOP/s")
    if ceilings.graph_gap_us is not None:
        parts.append(f"a kernel in a graph costs {ceilings.graph_gap_us:.2f} us")
    return f"{ceilings.device} measured: {', '.join(parts)}"
