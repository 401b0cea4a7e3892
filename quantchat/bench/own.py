"""Our own engine in a benchmark: the plan, the loader and the runner of the app, no text.

Owns driving a runner over token ids with forced lengths; scheduler, events and detokenizer are
not in the measured loop.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import tokenizers
import torch

from quantchat import __version__, paths
from quantchat.bench.contest import EngineFacts, Job, RunTimes, row_prompts, run_times
from quantchat.bench.gate import check
from quantchat.bench.memory import peak_bytes
from quantchat.bench.random_codes import RandomCodes
from quantchat.bench.random_model import random_source, shape_named
from quantchat.engine.forced import greedy_sequence, prefill
from quantchat.engine.loading import build_decoder, build_pool, plan_request, scheme_detail
from quantchat.engine.model import LoadedModel
from quantchat.engine.runner import Runner
from quantchat.engine.sequence import Sequence
from quantchat.errors import EngineError, PlanError
from quantchat.events import ModelInfo
from quantchat.hardware.bandwidth import read_bytes_per_s
from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.plan import plan as make_plan
from quantchat.hardware.probe import probe
from quantchat.hub.local import resolve
from quantchat.model.decoder import Decoder
from quantchat.model.families import ModelSource, open_model
from quantchat.model.loader import MatrixSource, load_decoder
from quantchat.model.packed_cache import PackedCache
from quantchat.model.weights import WeightRecipe
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.select import make_ops
from quantchat.ops.torch_ops import TorchOps
from quantchat.requests import LoadRequest
from quantchat.spec import DecoderSpec
from quantchat.tokenizer import Tokenizer
from quantchat.tokenizer.template import ChatTemplate

SPARE_TOKENS = 8
"""Room behind the longest run, for steps that run ahead."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The model of a job, open."""

    source: ModelSource
    name: str
    random: bool


def open_subject(model: str, shape: str) -> Subject:
    """The checkpoint on disk, or random weights of a shape."""
    if shape:
        return Subject(random_source(shape, shape_named(shape)), shape, True)
    local = resolve(model)
    return Subject(open_model(local.path), local.name, False)


class OwnEngine:
    """Implements `quantchat.bench.contest.BenchEngine`."""

    def __init__(self, job: Job) -> None:
        started_s = time.perf_counter()
        subject = open_subject(job.model, job.shape)
        try:
            spec = subject.source.spec
            self._room = min(job.context_tokens + SPARE_TOKENS, spec.context)
            self.plan = _plan(job, subject, self._room)
            torch.set_num_threads(self.plan.threads)
            ops = make_ops(spec, self.plan)
            decoder = place(subject, self.plan, ops, subject.source, ops.dtype)
            load_s = time.perf_counter() - started_s
            # Rows of pages for the longest runs; the plan's context stays that of the app.
            row_tokens = -(-self._room // self.plan.page_tokens) * self.plan.page_tokens
            held = dataclasses.replace(self.plan, context_tokens=row_tokens * job.rows)
            self.model = _loaded(subject, decoder, self.plan, build_pool(decoder, held), load_s)
            compile_s = _compiled_s(self.model)
            tune_s = _tuned_s(self.model) if job.tune else 0.0
            self.runner: Runner = self.model.make_runner()
            self.rows_most = _rows_most(self.plan, job.rows)
            """Rows that the runner writes at once, as far as they are asked for."""
            gate = check(self, subject, list(job.gate_ids)) if job.gate_ids else None
        finally:
            subject.source.close()
        kernels = [op.kernel for op in decoder.linears]
        self.facts = EngineFacts(
            engine="quantchat",
            version=__version__,
            scheme=self.model.info.scheme_detail,
            kv=self.plan.kv,
            device=self.plan.device,
            weight_bytes=decoder.weight_bytes,
            read_bytes=decoder.read_bytes,
            kv_bytes_per_token=self.model.pool.token_bytes,
            load_s=load_s,
            kernels=tuple(dict.fromkeys((*kernels, decoder.head.kernel))),
            tiles=_tiles(decoder) if self.plan.graph else (),
            tune_s=tune_s,
            compile_s=compile_s,
            gate=gate,
        )

    def run(self, prompt: list[int], tokens: int, rows: int = 1) -> RunTimes:
        """See BenchEngine.run."""
        length = len(prompt) + tokens
        self._check_rows(rows, length)
        sequences = tuple(
            self.sequence(ids, length, row) for row, ids in enumerate(row_prompts(prompt, rows))
        )
        self.synchronize()
        started_s = time.perf_counter()
        for sequence in sequences:
            sequence.tokens.append(self.prefill(sequence))
        stamps_s = [time.perf_counter()]
        while len(stamps_s) < tokens:
            pairs = self.runner.decode(sequences)
            if pairs:
                stamps_s.append(time.perf_counter())
            for sequence, token in pairs:
                sequence.computed = len(sequence.tokens)
                sequence.tokens.append(token)
        self.runner.flush()
        for sequence in sequences:
            self.runner.leave(sequence)
        return run_times(started_s, stamps_s, tokens, sequences[0].tokens[len(prompt) :])

    def _check_rows(self, rows: int, length: int) -> None:
        if rows > self.rows_most:
            raise EngineError(f"{rows} rows at once: {self.rows_most} are the most")
        pages = rows * -(-min(length + SPARE_TOKENS, self._room) // self.plan.page_tokens)
        assert pages < self.model.pool.pages, "the job's context and rows bound every run"

    def sequence(self, ids: list[int], length: int, row: int = 0) -> Sequence:
        """A greedy sequence with pages for `length` tokens and what runs ahead of them."""
        room = min(length + SPARE_TOKENS, self._room)
        pages = -(-room // self.plan.page_tokens)
        first = 1 + row * pages
        return greedy_sequence(ids, range(first, first + pages), self.model.tokenizer, row)

    def prefill(self, sequence: Sequence) -> int:
        """The prompt in the plan's chunks -> the first token."""
        return prefill(self.runner, sequence, self.plan.prefill_chunk_tokens)

    def synchronize(self) -> None:
        """Wait for the card, so that nothing earlier is timed."""
        if self.plan.device == "cuda":
            torch.cuda.synchronize(self.plan.gpu_index)

    def peak_bytes(self) -> int:
        """See BenchEngine.peak_bytes."""
        return peak_bytes(self.plan.device)


def _plan(job: Job, subject: Subject, room: int) -> ExecutionPlan:
    """The app's own plan, its default context included; a longer or a tight one where it must be."""
    spec, facts = subject.source.spec, probe()

    def made(context_tokens: int) -> ExecutionPlan:
        request = LoadRequest(
            model=job.model,
            scheme=job.variant,
            kv=job.kv,
            device=job.device,
            context_tokens=context_tokens,
        )
        return make_plan(facts, spec, plan_request(request, subject.source))

    plan = made(0)
    if plan.context_tokens < room:
        plan = made(room)
    return dataclasses.replace(plan, threads=job.threads) if job.threads else plan


def _compiled_s(model: LoadedModel) -> float:
    """Seconds spent on kernels that no cache had, as the app would."""
    if not model.plan.triton:
        return 0.0
    from quantchat.engine.warming import compile_ahead

    model.use_device()
    told: list[int] = []
    started_s = time.perf_counter()
    compile_ahead(model, lambda *words: told.append(words[1]), lambda: False)
    return time.perf_counter() - started_s if told else 0.0


def _tuned_s(model: LoadedModel) -> float:
    """Seconds spent on tiles that were not known, as the app would."""
    if not model.plan.graph:
        return 0.0
    from quantchat.engine.tuning import tune_tiles

    told: list[int] = []
    started_s = time.perf_counter()
    tune_tiles(model, report=lambda *words: told.append(words[1]), cancelled=lambda: False)
    return time.perf_counter() - started_s if told else 0.0


def _tiles(decoder: Decoder) -> tuple[str, ...]:
    from quantchat.engine.tuning import tiles_in_words

    return tiles_in_words(decoder)


def _rows_most(plan: ExecutionPlan, wanted: int) -> int:
    if not plan.graph:
        return wanted
    from quantchat.engine.graph_runner import ROW_BUCKETS

    return min(wanted, ROW_BUCKETS[-1])


def place(
    subject: Subject,
    plan: ExecutionPlan,
    ops: TorchOps,
    source: ModelSource,
    dtype: torch.dtype,
) -> Decoder:
    """`source`'s weights in the plan's scheme under `ops`: from the disk as in the app, or random.

    `dtype`: of weights that stay dense; `ops` may compute in another one.
    """
    scheme = plan.scheme
    if scheme.calibration != "none" and not subject.random:
        return build_decoder(
            source, plan, ops, on_progress=lambda phase, done, total: None, cancelled=lambda: False
        ).decoder
    identity = subject.source.checkpoint.identity()
    cache: PackedCache | MatrixSource | None = None
    if scheme.rounding != "none" and subject.random:
        cache = RandomCodes(identity, scheme, plan.group_size)
    elif scheme.rounding != "none":
        cache = PackedCache(paths.packed_dir(), identity, scheme.name, plan.group_size)
    return load_decoder(
        source,
        ops,
        WeightRecipe(scheme=scheme, group_size=plan.group_size, dtype=dtype, device=ops.device),
        context_tokens=plan.context_tokens,
        cache=cache,
        on_progress=lambda phase, done, total: None,
        cancelled=lambda: False,
    ).decoder


def _loaded(
    subject: Subject, decoder: Decoder, plan: ExecutionPlan, pool: KvPool, load_s: float
) -> LoadedModel:
    spec = decoder.spec
    info = ModelInfo(
        slot="main",
        model=subject.name,
        path=str(subject.source.checkpoint.path),
        architecture=spec.architecture,
        parameters=spec.parameters,
        scheme=plan.scheme.name,
        scheme_detail=scheme_detail(plan),
        kv=plan.kv,
        device=plan.device,
        device_name=plan.device_name,
        context_tokens=plan.context_tokens,
        weight_bytes=decoder.weight_bytes,
        bits_per_weight=8 * decoder.weight_bytes / spec.parameters,
        load_s=load_s,
        identity=subject.source.checkpoint.identity(),
        read_bytes_per_s=read_bytes_per_s(probe(), plan),
        kv_bytes_per_token=pool.token_bytes,
    )
    return LoadedModel(info=info, plan=plan, decoder=decoder, pool=pool, tokenizer=ids_only(spec))


def ids_only(spec: DecoderSpec) -> Tokenizer:
    """A tokenizer for token ids that nobody reads: every token stands for no text."""
    nowhere = Path("random")
    return Tokenizer(
        path=nowhere,
        backend=tokenizers.Tokenizer(tokenizers.models.BPE()),
        pieces=[""] * spec.vocab,
        piece_bytes=lambda piece: b"",
        literal_ids=frozenset(),
        special_ids=frozenset(),
        bos_id=None,
        eos_ids=frozenset(),
        adds_bos=False,
        strips_space=False,
        template=ChatTemplate("", source="transcript", path=nowhere, special_tokens={}),
    )


def check_context(prompt_tokens: int, tokens: int, spec: DecoderSpec) -> None:
    """Raises PlanError where the runs would not fit into the model's own context."""
    if prompt_tokens + tokens > spec.context:
        raise PlanError(
            f"{prompt_tokens} + {tokens} tokens are more than the model's {spec.context}",
            hint="lower --context, --prompt or --tokens",
        )
