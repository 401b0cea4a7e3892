"""Our own engine in a benchmark: the plan, the loader and the runner of the app, no text.

Owns driving a runner over token ids with forced lengths; scheduler, events and detokenizer are
not in the measured loop.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import tokenizers
import torch

from quantchat import __version__, paths
from quantchat.bench.accounting import kv_token_bytes, read_weight_bytes
from quantchat.bench.contest import EngineFacts, Job, RunTimes
from quantchat.bench.gate import check
from quantchat.bench.memory import peak_bytes
from quantchat.bench.random_model import RandomCodes, random_source, shape_named
from quantchat.engine.loading import build_pool, plan_request, scheme_detail
from quantchat.engine.metrics import Clock
from quantchat.engine.model import LoadedModel
from quantchat.engine.runner import Runner
from quantchat.engine.sequence import Sequence
from quantchat.errors import PlanError
from quantchat.events import ModelInfo
from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.plan import plan as make_plan
from quantchat.hardware.probe import probe
from quantchat.hub.local import resolve
from quantchat.model.decoder import Decoder
from quantchat.model.families import ModelSource, open_model
from quantchat.model.loader import load_decoder
from quantchat.model.packed_cache import PackedCache
from quantchat.model.weights import WeightRecipe
from quantchat.ops.select import make_ops
from quantchat.requests import ChatRequest, LoadRequest, Message, Sampling
from quantchat.spec import DecoderSpec
from quantchat.tokenizer import Tokenizer
from quantchat.tokenizer.template import ChatTemplate

SPARE_TOKENS = 8
"""Room behind the longest run, for steps that run ahead."""
FIRST_IDS = 16


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
            request = LoadRequest(
                model=job.model,
                scheme=job.variant,
                kv=job.kv,
                device=job.device,
                context_tokens=min(job.context_tokens + SPARE_TOKENS, subject.source.spec.context),
            )
            self.plan = make_plan(
                probe(), subject.source.spec, plan_request(request, subject.source)
            )
            if job.threads:
                self.plan = dataclasses.replace(self.plan, threads=job.threads)
            torch.set_num_threads(self.plan.threads)
            decoder = _decoder(subject, self.plan)
            load_s = time.perf_counter() - started_s
            self.model = _loaded(subject, decoder, self.plan, load_s)
            self.runner: Runner = self.model.make_runner()
            gate = check(self, subject, list(job.gate_ids)) if job.gate_ids else None
        finally:
            subject.source.close()
        kernels = [op.kernel for layer in decoder.layers for op in layer.linears]
        self.facts = EngineFacts(
            engine="quantchat",
            version=__version__,
            scheme=self.model.info.scheme_detail,
            kv=self.plan.kv,
            device=self.plan.device,
            weight_bytes=decoder.weight_bytes,
            read_bytes=read_weight_bytes(decoder),
            kv_bytes_per_token=kv_token_bytes(self.model.pool),
            load_s=load_s,
            kernels=tuple(dict.fromkeys((*kernels, decoder.head.kernel))),
            gate=gate,
        )

    def run(self, prompt: list[int], tokens: int) -> RunTimes:
        """See BenchEngine.run."""
        sequence = self.sequence(prompt, len(prompt) + tokens)
        self.synchronize()
        started_s = time.perf_counter()
        sequence.tokens.append(self.prefill(sequence))
        times_s = [time.perf_counter()]
        while sequence.answer_tokens < tokens:
            for _, token in self.runner.decode((sequence,)):
                sequence.computed = len(sequence.tokens)
                sequence.tokens.append(token)
                times_s.append(time.perf_counter())
        self.runner.flush()
        self.runner.leave(sequence)
        times_s = times_s[:tokens]
        answer = sequence.tokens[len(prompt) :]
        return RunTimes(
            prefill_s=times_s[0] - started_s,
            decode_s=times_s[-1] - times_s[0],
            decode_steps=len(times_s) - 1,
            gaps_s=tuple(b - a for a, b in pairwise(times_s)),
            first_ids=tuple(answer[:FIRST_IDS]),
        )

    def sequence(self, prompt: list[int], length: int) -> Sequence:
        """A greedy sequence with pages for `length` tokens and what runs ahead of them."""
        request = ChatRequest(
            messages=(Message("user", ""),), sampling=Sampling(temperature=0, top_p=1)
        )
        now_s = time.perf_counter()
        sequence = Sequence.create(
            0,
            request,
            seed=0,
            ids=list(prompt),
            clock=Clock(submitted_s=now_s, dequeued_s=now_s),
            tokenizer=self.model.tokenizer,
        )
        room = min(length + SPARE_TOKENS, self.plan.context_tokens)
        pages = -(-room // self.plan.page_tokens)
        assert pages < self.model.pool.pages
        sequence.pages = list(range(1, 1 + pages))
        return sequence

    def prefill(self, sequence: Sequence) -> int:
        """The prompt in the plan's chunks -> the first token."""
        token: int | None = None
        while token is None:
            start = sequence.computed
            count = min(self.plan.prefill_chunk_tokens, len(sequence.tokens) - start)
            token = self.runner.prefill(sequence, start, count)
            sequence.computed = start + count
        return token

    def synchronize(self) -> None:
        """Wait for the card, so that nothing earlier is timed."""
        if self.plan.device == "cuda":
            torch.cuda.synchronize(self.plan.gpu_index)

    def peak_bytes(self) -> int:
        """See BenchEngine.peak_bytes."""
        return peak_bytes(self.plan.device)


def _decoder(subject: Subject, plan: ExecutionPlan) -> Decoder:
    ops = make_ops(subject.source.spec, plan)
    cache = weight_cache(subject, plan)
    loaded = load_decoder(
        subject.source,
        ops,
        WeightRecipe(
            scheme=plan.scheme, group_size=plan.group_size, dtype=ops.dtype, device=ops.device
        ),
        context_tokens=plan.context_tokens,
        cache=cache,
        on_progress=lambda phase, done, total: None,
        cancelled=lambda: False,
    )
    return loaded.decoder


def weight_cache(subject: Subject, plan: ExecutionPlan) -> PackedCache | None:
    """Where rounded weights come from: the disk, as in the app, or random codes."""
    if plan.scheme.rounding == "none":
        return None
    identity = subject.source.checkpoint.identity()
    if subject.random:
        return RandomCodes(identity, plan.scheme, plan.group_size)
    return PackedCache(paths.packed_dir(), identity, plan.scheme.name, plan.group_size)


def _loaded(subject: Subject, decoder: Decoder, plan: ExecutionPlan, load_s: float) -> LoadedModel:
    spec, pool = decoder.spec, build_pool(decoder, plan)
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
            hint="lower --prompt-tokens or --tokens",
        )
