"""Prefill and decode speed of our schemes and of peers, in one run.

Owns the order of things: ceilings, kernels, loading with its gate, then each case warm and in
rounds. Each engine lives in its own process. On a CPU they take turns, so that drift of the machine
meets all alike; on a card one is there at a time, with all of the memory.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from quantchat.bench.ceilings import Ceilings, ceilings_lines
from quantchat.bench.contest import EngineFacts, Job, RunTimes
from quantchat.bench.kernel_scope import scope_of
from quantchat.bench.own import SPARE_TOKENS, Subject, check_context, open_subject
from quantchat.bench.peers import peer_named
from quantchat.bench.record import Case, EngineResult, KernelGate, Report, Row, make_row
from quantchat.bench.remote import RemoteEngine, gate_workers, remote_ceilings, remote_kernel_gate
from quantchat.engine.loading import plan_request, read_tokenizer
from quantchat.errors import PlanError, QuantchatError
from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.facts import Facts
from quantchat.hardware.plan import plan as make_plan
from quantchat.requests import LoadRequest

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

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to measure."""

    model: str
    shape: str
    schemes: tuple[str, ...]
    kvs: tuple[str, ...]
    device: str
    contexts: tuple[int, ...]
    """Prompt lengths behind which decoding is timed."""
    rows: tuple[int, ...]
    prompts: tuple[int, ...]
    """Prompt lengths of which the time to first token alone is taken."""
    tokens: int
    runs: int
    peers: tuple[str, ...]
    peer_timeout_s: float
    kernel_gate: bool
    tune: bool = True

    def cases(self) -> tuple[Case, ...]:
        """Short contexts first: a static cache grows and keeps its size."""
        decode = [
            Case(kind="decode", context_tokens=context, rows=rows, tokens=self.tokens)
            for context in sorted(set(self.contexts))
            for rows in sorted(set(self.rows))
        ]
        prompts = [
            Case(kind="prompt", context_tokens=count, rows=1, tokens=1)
            for count in sorted(set(self.prompts))
        ]
        return (*decode, *prompts)


@dataclass(slots=True, kw_only=True)
class _Entrant:
    """An engine on its way through the benchmark."""

    job: Job
    problem: str = ""
    engine: RemoteEngine | None = None
    times: dict[Case, list[RunTimes]] = field(default_factory=dict)
    problems: dict[Case, str] = field(default_factory=dict)
    result: EngineResult | None = None

    @property
    def name(self) -> str:
        kv = f" {self.job.kv} KV" if self.job.kind == "quantchat" and self.job.kv != "auto" else ""
        return f"{self.job.kind} {self.job.variant}{kv}"


def measure(options: Options, facts: Facts, show: Say, say: Say) -> Report:
    """Run it all. `show` gets what belongs to the result as it is found, `say` what goes on.

    Raises QuantchatError where nothing can run.
    """
    cases = options.cases()
    subject = open_subject(options.model, options.shape)
    try:
        for case in cases:
            check_context(case.context_tokens, case.tokens, subject.source.spec)
        plan = _first_plan(options, facts, subject)
        prompt = prompt_ids(subject, max(case.context_tokens for case in cases))
    finally:
        subject.source.close()
    entrants = _entrants(options, plan, cases, tuple(prompt[:GATE_TOKENS]))
    say("measuring what the machine can do at most")
    ceilings = remote_ceilings(plan.device, plan.threads)
    for line in ceilings_lines(ceilings):
        show(line)
    kernels = _check_kernels(options, plan, facts, show, say)
    if kernels is None or not kernels.failures:
        groups = [entrants] if plan.device == "cpu" else [[entrant] for entrant in entrants]
        for group in groups:
            _contest(group, cases, prompt, options, ceilings, show, say)
    return Report(
        subject=subject.name,
        device=plan.device,
        threads=plan.threads,
        runs=options.runs,
        ceilings=ceilings,
        kernel_gate=kernels,
        engines=tuple(entrant.result for entrant in entrants if entrant.result is not None),
    )


def _first_plan(options: Options, facts: Facts, subject: Subject) -> ExecutionPlan:
    """Names device and threads for all: the first scheme that runs here. Raises as the last one."""
    refused: QuantchatError | None = None
    for scheme in options.schemes:
        wish = LoadRequest(
            model=options.model or options.shape, scheme=scheme, device=options.device
        )
        try:
            return make_plan(facts, subject.source.spec, plan_request(wish, subject.source))
        except PlanError as error:
            refused = error
    assert refused is not None
    raise refused


def _check_kernels(
    options: Options, plan: ExecutionPlan, facts: Facts, show: Say, say: Say
) -> KernelGate | None:
    if not options.kernel_gate or not plan.triton:
        return None
    say("checking kernels against their references (the first time compiles them)")
    gate = _checked(options, plan, facts)
    agree = gate.cases - len(gate.failures)
    show(f"gate kernels: {agree} of {gate.cases} cases agree with their reference")
    for failure in gate.failures:
        show(f"gate kernels: FAILED {failure}")
    return gate


def _checked(options: Options, plan: ExecutionPlan, facts: Facts) -> KernelGate:
    card = next(one for one in facts.gpus if one.index == plan.gpu_index)
    scope = scope_of(options.schemes, options.kvs, plan, card.sm)
    return remote_kernel_gate(scope, gate_workers(card.free_bytes))


def _contest(
    entrants: list[_Entrant],
    cases: tuple[Case, ...],
    prompt: list[int],
    options: Options,
    ceilings: Ceilings,
    show: Say,
    say: Say,
) -> None:
    with contextlib.ExitStack() as stack:
        for entrant in entrants:
            if not entrant.problem:
                say(f"loading {entrant.name}")
                _load(entrant, stack, options, show)
        for case in cases:
            running = [entrant for entrant in entrants if entrant.engine is not None]
            for entrant in running:
                _run(entrant, case, prompt, warm=True)
            say(f"{case.named()}: {options.runs} rounds of {len(running)} engines")
            for _ in range(options.runs):
                for entrant in running:
                    _run(entrant, case, prompt, warm=False)
            for entrant in running:
                if line := _found_line(entrant, case, ceilings):
                    say(line)
        for entrant in entrants:
            entrant.result = _result(entrant, cases, ceilings)


def _load(entrant: _Entrant, stack: contextlib.ExitStack, options: Options, show: Say) -> None:
    budget_s = None if entrant.job.kind == "quantchat" else options.peer_timeout_s
    try:
        engine = stack.enter_context(RemoteEngine(entrant.job, budget_s=budget_s))
    except QuantchatError as error:
        entrant.problem = str(error)
        return
    if engine.facts.compile_s:
        show(f"kernels {entrant.name}: compiled in {engine.facts.compile_s:.1f} s")
    for line in tile_lines(entrant.name, engine.facts):
        show(line)
    gate = engine.facts.gate
    if gate is not None:
        show(
            f"gate {entrant.name}: {'passed' if gate.passed else 'FAILED'}, KL {gate.kl_mean:.1e}, "
            f"error {gate.relative_error:.1e} and same top token {gate.same_top_share:.0%} against "
            f"float32 over {gate.positions} positions ({gate.steps} of them decode steps) of "
            f"{gate.layers} layers, greedy regret {gate.worst_regret:.1e} of at most "
            f"{gate.regret_limit:.1e}"
        )
        if not gate.passed:
            entrant.problem = "wrong logits, not measured: see its gate"
    entrant.engine = engine


def _found_line(entrant: _Entrant, case: Case, ceilings: Ceilings) -> str:
    """What a case has given, told at once: a run that is cut short has still said something."""
    if entrant.engine is None or case not in entrant.times or case in entrant.problems:
        return ""
    row = make_row(case, entrant.engine.facts, entrant.times[case], ceilings)
    assert row.prefill_ms is not None
    first = f"first token {row.prefill_ms.median:.1f} ms"
    if row.step_ms is None:
        return f"{entrant.name}, {case.named()}: {first}"
    return (
        f"{entrant.name}, {case.named()}: {row.step_ms.median:.3f} ms/step, "
        f"{row.tok_per_s:.1f} tok/s, {row.floor_share:.0%} of the floor, {first}"
    )


def tile_lines(name: str, facts: EngineFacts) -> list[str]:
    """Which launches of the linears are timed, and how they are known."""
    if not facts.tiles:
        return []
    spent = f" (tuned in {facts.tune_s:.1f} s)" if facts.tune_s else ""
    return [f"tiles {name}{spent}:", *(f"  {tile}" for tile in facts.tiles)]


def _run(entrant: _Entrant, case: Case, prompt: list[int], *, warm: bool) -> None:
    """One run, noted where it is not for warming; what fails leaves the case."""
    engine = entrant.engine
    if engine is None or entrant.problem or case in entrant.problems:
        return
    tokens = case.tokens
    if warm and entrant.job.kind in ("quantchat", "llama.cpp"):
        tokens = min(WARM_TOKENS, tokens)  # compiled peers must see the very length
    if not warm:
        time.sleep(SETTLE_S if entrant.job.device == "cpu" else 0.0)
    try:
        times = engine.run(prompt[: case.context_tokens], tokens, case.rows)
    except QuantchatError as error:
        entrant.problems[case] = str(error)
        return
    if not warm:
        entrant.times.setdefault(case, []).append(times)


def _result(entrant: _Entrant, cases: tuple[Case, ...], ceilings: Ceilings) -> EngineResult:
    job, engine = entrant.job, entrant.engine
    found = EngineResult(
        engine=job.kind, variant=job.variant, kv=job.kv, problem=entrant.problem, facts=None
    )
    if engine is None:
        return found
    found = replace(found, facts=engine.facts, kv=engine.facts.kv)
    if entrant.problem:
        return found
    rows = tuple(
        Row(case=case, problem=entrant.problems[case])
        if case in entrant.problems
        else make_row(case, engine.facts, entrant.times[case], ceilings)
        for case in cases
    )
    peak = 0
    with contextlib.suppress(QuantchatError):  # a peer that was ended tells nothing more
        peak = engine.peak_bytes()
    return replace(found, rows=rows, peak_bytes=peak)


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


def _entrants(
    options: Options, plan: ExecutionPlan, cases: tuple[Case, ...], gate_ids: tuple[int, ...]
) -> list[_Entrant]:
    """Ours, every scheme with every KV precision, then the peers; each with what is missing."""
    base = Job(
        kind="quantchat",
        variant="",
        model=options.model,
        shape=options.shape,
        kv="auto",
        device=plan.device,
        threads=plan.threads,
        context_tokens=max(case.context_tokens + case.tokens for case in cases) + SPARE_TOKENS,
        rows=max(case.rows for case in cases),
        tune=options.tune,
        gate_ids=gate_ids,
    )
    entrants = [
        _Entrant(job=replace(base, variant=scheme, kv=kv))
        for scheme in options.schemes
        for kv in options.kvs
    ]
    for name in options.peers:
        peer = peer_named(name)
        entrants += [
            _Entrant(
                job=replace(base, kind=peer.kind, variant=variant, kv="16bit", gate_ids=()),
                problem=peer.missing(),
            )
            for variant in peer.variants_on(plan.device)
        ]
    return entrants
