"""A model's schemes and KV precisions against one reference, on the same windows.

Owns the order of work: reference once, then each scheme's weights once, each KV precision on them.
One quantized decoder is in memory at a time, beside the reference's head.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch

from quantchat.engine.loading import build_pool
from quantchat.errors import PlanError
from quantchat.evals.divergence import Divergence, Positions, compare, concat, summarize
from quantchat.evals.logprobs import hidden_states, log_softmax, row_slices
from quantchat.evals.perplexity import Perplexity, log_ratio, perplexity
from quantchat.evals.reference import Reference, run_reference
from quantchat.evals.statistics import Estimate
from quantchat.evals.subject import Subject
from quantchat.evals.text import Passages
from quantchat.hardware.execution import ExecutionPlan
from quantchat.model.decoder import Decoder
from quantchat.ops.kv_pool import KvPool

ReferenceKind: TypeAlias = Literal["fp32", "fp16"]
OnWork: TypeAlias = Callable[[str, int, int], None]
"""label, tokens done, tokens in all of this pass; (label, 0, 0) while weights are loaded."""

REFERENCES: Mapping[ReferenceKind, str] = MappingProxyType(
    {
        "fp32": "the file's own weights dense in float32, float32 KV",
        "fp16": "the file's own weights dense in 16 bits, 16-bit KV",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One scheme with one KV precision, measured."""

    scheme: str
    kv: str
    detail: str
    """Scheme in words, with group and head."""
    compute_dtype: str
    device: str
    weight_bytes: int
    """As decode reads them."""
    bits_per_weight: float
    kv_bytes_per_token: float
    divergence: Divergence
    perplexity: Perplexity
    ln_ppl_ratio: Estimate
    """ln(ppl / reference ppl), paired."""
    score_tok_per_s: float
    """Tokens a second through the decoder in this pass, head left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """All rows of one evaluation."""

    model: str
    parameters: int
    reference: str
    """What was measured against, in words."""
    reference_perplexity: Perplexity
    passages: Passages
    rows: tuple[Row, ...]
    refused: tuple[str, ...]
    """Pairs that do not run here, with the reason."""


def evaluate(
    subject: Subject,
    passages: Passages,
    *,
    schemes: tuple[str, ...],
    kvs: tuple[str, ...],
    device: str,
    reference: ReferenceKind,
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> Study:
    """Measure every pair that the plan allows. Raises PlanError if it allows none, Cancelled."""
    plans, refused = _plans(subject, passages, schemes, kvs, device)
    base = _reference(subject, passages, reference, device, on_work, cancelled)
    rows: list[Row] = []
    for group in plans:
        first = group[0]
        on_work(f"{first.scheme.name}: weights", 0, 0)
        loaded = subject.decoder(first, _ignore, cancelled)
        for plan in group:
            rows.append(_row(loaded.decoder, plan, passages, base, on_work, cancelled))
        del loaded
    nll = torch.cat([_reference_nll(base, i, passages) for i in range(len(passages.windows))])
    return Study(
        model=subject.name,
        parameters=subject.source.spec.parameters,
        reference=REFERENCES[reference],
        reference_perplexity=perplexity(nll),
        passages=passages,
        rows=tuple(rows),
        refused=refused,
    )


def score(
    decoder: Decoder,
    pool: KvPool,
    passages: Passages,
    base: Reference,
    *,
    chunk_tokens: int,
    cancelled: Callable[[], bool],
    on_tokens: Callable[[int], None],
) -> tuple[Positions, float]:
    """Positions of a decoder against a reference, and seconds spent in the decoder itself."""
    parts: list[Positions] = []
    decoder_s = 0.0
    for index, window in enumerate(passages.windows):
        started_s = time.perf_counter()
        hidden = hidden_states(
            decoder,
            pool,
            window,
            chunk_tokens=chunk_tokens,
            cancelled=cancelled,
            on_tokens=on_tokens,
        )
        decoder_s += time.perf_counter() - started_s
        parts.append(_against(decoder, hidden, base, index, window.ids[window.first_target :]))
    return concat(parts), decoder_s


@torch.inference_mode()
def _against(
    decoder: Decoder,
    hidden: torch.Tensor,
    base: Reference,
    index: int,
    scored: tuple[int, ...],
) -> Positions:
    targets = torch.tensor(scored, device=hidden.device)
    return concat(
        [
            compare(
                base.log_probs(index, rows),
                log_softmax(decoder.logits(hidden[rows])),
                targets[rows],
            )
            for rows in row_slices(len(scored), decoder.spec.vocab)
        ]
    )


def _plans(
    subject: Subject,
    passages: Passages,
    schemes: tuple[str, ...],
    kvs: tuple[str, ...],
    device: str,
) -> tuple[list[list[ExecutionPlan]], tuple[str, ...]]:
    """Plans by scheme, and what was refused."""
    plans: list[list[ExecutionPlan]] = []
    refused: list[str] = []
    problem: PlanError | None = None
    for scheme in schemes:
        group: list[ExecutionPlan] = []
        for kv in kvs:
            try:
                group.append(subject.plan(scheme, kv, device, passages.longest_tokens))
            except PlanError as error:
                problem = error
                refused.append(f"{scheme} with {kv} KV: {error.message}")
        if group:
            plans.append(group)
    if not plans and problem is not None:
        raise problem
    return plans, tuple(refused)


def _reference(
    subject: Subject,
    passages: Passages,
    kind: ReferenceKind,
    device: str,
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> Reference:
    plan = subject.plan("fp16", "16bit", device, passages.longest_tokens)
    on_work("reference: weights", 0, 0)
    decoder = (
        subject.float32_decoder(plan, _ignore, cancelled)
        if kind == "fp32"
        else subject.decoder(plan, _ignore, cancelled).decoder
    )
    return run_reference(
        decoder,
        build_pool(decoder, plan),
        passages,
        chunk_tokens=plan.prefill_chunk_tokens,
        cancelled=cancelled,
        on_tokens=_counter("reference", passages.tokens, on_work),
    )


def _row(
    decoder: Decoder,
    plan: ExecutionPlan,
    passages: Passages,
    base: Reference,
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> Row:
    pool = build_pool(decoder, plan)
    positions, decoder_s = score(
        decoder,
        pool,
        passages,
        base,
        chunk_tokens=plan.prefill_chunk_tokens,
        cancelled=cancelled,
        on_tokens=_counter(f"{plan.scheme.name}, {plan.kv} KV", passages.tokens, on_work),
    )
    kept = positions.kept()
    scheme = plan.scheme
    detail = scheme.title
    if plan.group_size:
        detail += f" group {plan.group_size}"
    if scheme.head == "int8_channel":
        detail += ", int8 head"
    return Row(
        scheme=scheme.name,
        kv=plan.kv,
        detail=detail,
        compute_dtype=plan.compute_dtype,
        device=plan.device_name,
        weight_bytes=decoder.weight_bytes,
        bits_per_weight=8 * decoder.weight_bytes / decoder.spec.parameters,
        kv_bytes_per_token=pool.page_bytes / pool.page_tokens,
        divergence=summarize(positions),
        perplexity=perplexity(positions.nll),
        ln_ppl_ratio=log_ratio(kept.nll, kept.base_nll),
        score_tok_per_s=passages.tokens / decoder_s,
    )


@torch.inference_mode()
def _reference_nll(base: Reference, index: int, passages: Passages) -> torch.Tensor:
    window = passages.windows[index]
    targets = torch.tensor(window.ids[window.first_target :], device=base.device)
    parts = [
        -base.log_probs(index, rows).gather(1, targets[rows][:, None])[:, 0].double().cpu()
        for rows in row_slices(window.scored_tokens, base.head.out_features)
    ]
    return torch.cat(parts)


def _counter(label: str, total: int, on_work: OnWork) -> Callable[[int], None]:
    done = 0
    on_work(label, 0, total)

    def count(tokens: int) -> None:
        nonlocal done
        done += tokens
        on_work(label, done, total)

    return count


def _ignore(phase: str, done: int, total: int) -> None:
    """Loading has no bar of its own here."""
