"""A model's schemes and KV precisions against one reference, on the same windows.

Owns the order of work: reference once, then each scheme's weights once, each KV precision on them.
One quantized decoder is in memory at a time, beside the reference's head. What is finished when
work is stopped is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from quantchat.calibration.settings import CalibrationSettings
from quantchat.engine.device_errors import forget_frames, trouble_of
from quantchat.engine.loading import build_pool, scheme_detail
from quantchat.engine.read_ahead import calibration_key
from quantchat.errors import Cancelled, EngineError, PlanError, QuantchatError
from quantchat.evals.divergence import Divergence, Positions, compare, concat, summarize
from quantchat.evals.logprobs import hidden_states, log_softmax, row_slices
from quantchat.evals.perplexity import Perplexity, log_ratio, perplexity
from quantchat.evals.reference import REFERENCES, Reference, ReferenceKind, reference_for
from quantchat.evals.statistics import Estimate
from quantchat.evals.subject import OnWork, Subject, phases
from quantchat.evals.text import Passages
from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.memory import kv_bytes_per_token, weight_bytes
from quantchat.model.decoder import Decoder
from quantchat.ops.kv_pool import KvPool

AnyRow = TypeVar("AnyRow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One scheme with one KV precision, measured."""

    scheme: str
    kv: str
    group_size: int
    detail: str
    """Scheme in words, with group and head."""
    calibration: str
    """Key of the calibration settings, empty for schemes without."""
    compute_dtype: str
    device: str
    weight_bytes: int
    """As a card holds them."""
    bits_per_weight: float
    kv_bytes_per_token: float
    """As a card holds them."""
    held_bytes: int
    """Weights as they were held for this row."""
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
    identity: str
    parameters: int
    reference_kind: ReferenceKind
    reference_cached: bool
    reference_perplexity: Perplexity
    passages: Passages
    rows: tuple[Row, ...]
    refused: tuple[str, ...]
    """Pairs that do not run here, with the reason."""
    stopped: bool
    """Cancelled before the last row."""

    @property
    def reference(self) -> str:
        """What was measured against, in words."""
        return REFERENCES[self.reference_kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be measured and how."""

    schemes: tuple[str, ...]
    kvs: tuple[str, ...]
    device: str
    reference: ReferenceKind = "fp32"
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)


def evaluate(
    subject: Subject,
    passages: Passages,
    wish: Wish,
    *,
    on_work: OnWork,
    cancelled: Callable[[], bool],
    on_row: Callable[[Row], None] = lambda row: None,
) -> Study:
    """Measure every pair that the plan allows; `on_row` hears of each when it is finished.

    Raises PlanError if the plan allows none, Cancelled where not one row was finished.
    """
    plans, refused = plans_for(
        subject, wish.schemes, wish.kvs, wish.device, passages.longest_tokens
    )
    base = _reference(subject, passages, wish, on_work, cancelled)
    nll: torch.Tensor | None = None

    def measured(decoder: Decoder, plan: ExecutionPlan) -> Row:
        nonlocal nll
        row, positions = measure(subject, decoder, plan, passages, base, wish, on_work, cancelled)
        nll = positions.base_nll
        return row

    rows, stopped = rows_of(
        subject, wish, plans, refused, measured, on_work=on_work, cancelled=cancelled, on_row=on_row
    )
    return Study(
        model=subject.name,
        identity=subject.identity,
        parameters=subject.source.spec.parameters,
        reference_kind=wish.reference,
        reference_cached=base.from_cache,
        reference_perplexity=perplexity(base.nll(passages) if nll is None else nll),
        passages=passages,
        rows=tuple(rows),
        refused=tuple(refused),
        stopped=stopped,
    )


def _reference(
    subject: Subject,
    passages: Passages,
    wish: Wish,
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> Reference:
    """What rows are measured against; EngineError where there is no memory for it."""
    try:
        return reference_for(subject, passages, wish.reference, wish.device, on_work, cancelled)
    except QuantchatError:
        raise
    except Exception as error:
        raise EngineError(
            f"the {wish.reference} reference: {reason_of(error)}",
            hint="--reference fp16 takes half of it, --device cpu the memory of the machine",
        ) from error


def rows_of(
    subject: Subject,
    wish: Wish,
    plans: list[list[ExecutionPlan]],
    refused: list[str],
    measured: Callable[[Decoder, ExecutionPlan], AnyRow],
    *,
    on_work: OnWork,
    cancelled: Callable[[], bool],
    on_row: Callable[[AnyRow], None],
) -> tuple[list[AnyRow], bool]:
    """A row of each plan, a group's weights loaded once, and whether it was stopped before the end.

    What does not fit, or gives no numbers, is added to `refused`. Raises Cancelled where not one row
    was finished.
    """
    rows: list[AnyRow] = []
    try:
        for group in plans:
            scheme = group[0].scheme.name
            try:
                loaded = subject.decoder(
                    group[0], phases(scheme, on_work), cancelled, wish.calibration
                )
            except Exception as error:
                refused.append(f"{scheme}: {reason_of(error)}")
                continue
            for plan in group:
                try:
                    rows.append(measured(loaded.decoder, plan))
                except Exception as error:
                    refused.append(f"{scheme} with {plan.kv} KV: {reason_of(error)}")
                else:
                    on_row(rows[-1])
            del loaded
    except Cancelled:
        if not rows:
            raise
        return rows, True
    return rows, False


def reason_of(error: Exception) -> str:
    """Why something could not be measured here, in words; raises errors that are no such reason."""
    if isinstance(error, PlanError | EngineError):
        return error.message
    trouble = trouble_of(error)
    if isinstance(error, QuantchatError) or trouble is None or trouble.kind != "memory":
        raise error
    forget_frames(error)
    return f"not enough memory: {trouble.reason}"


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
        if hidden.device.type == "cuda":
            # Launches return before the card is done.
            torch.cuda.current_stream(hidden.device).synchronize()
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


def plans_for(
    subject: Subject,
    schemes: tuple[str, ...],
    kvs: tuple[str, ...],
    device: str,
    context_tokens: int,
) -> tuple[list[list[ExecutionPlan]], list[str]]:
    """Plans by scheme, and what was refused; raises PlanError where there is no plan at all."""
    plans: list[list[ExecutionPlan]] = []
    refused: list[str] = []
    problem: PlanError | None = None
    for scheme in schemes:
        group: list[ExecutionPlan] = []
        reasons: dict[str, list[str]] = {}
        for kv in kvs:
            try:
                group.append(subject.plan(scheme, kv, device, context_tokens))
            except PlanError as error:
                problem = error
                reasons.setdefault(error.message, []).append(kv)
        refused += [
            f"{scheme} with {', '.join(names)} KV: {reason}" for reason, names in reasons.items()
        ]
        if group:
            plans.append(group)
    if not plans and problem is not None:
        raise problem
    return plans, refused


def measure(
    subject: Subject,
    decoder: Decoder,
    plan: ExecutionPlan,
    passages: Passages,
    base: Reference,
    wish: Wish,
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> tuple[Row, Positions]:
    """One decoder with the plan's KV precision against a reference. Raises Cancelled."""
    positions, decoder_s = score(
        decoder,
        build_pool(decoder, plan),
        passages,
        base,
        chunk_tokens=plan.prefill_chunk_tokens,
        cancelled=cancelled,
        on_tokens=_counter(f"{plan.scheme.name}, {plan.kv} KV", passages.tokens, on_work),
    )
    kept, spec = positions.kept(), subject.source.spec
    card_bytes = card_weight_bytes(subject, plan, held_bytes=decoder.weight_bytes)
    row = Row(
        scheme=plan.scheme.name,
        kv=plan.kv,
        group_size=plan.group_size,
        detail=scheme_detail(plan),
        calibration=calibration_key(plan.scheme, wish.calibration),
        compute_dtype=plan.compute_dtype,
        device=plan.device_name,
        weight_bytes=card_bytes,
        bits_per_weight=8 * card_bytes / spec.parameters,
        kv_bytes_per_token=kv_bytes_per_token(spec, plan.kv),
        held_bytes=decoder.weight_bytes,
        divergence=summarize(positions),
        perplexity=perplexity(positions.nll),
        ln_ppl_ratio=log_ratio(kept.nll, kept.base_nll),
        score_tok_per_s=passages.tokens / decoder_s,
    )
    return row, positions


def card_weight_bytes(subject: Subject, plan: ExecutionPlan, *, held_bytes: int) -> int:
    """Bytes of the plan's weights as a card holds them, on whatever device the plan is for.

    A file's own blocks become the same formats everywhere: they take what is held (`held_bytes`).
    """
    if plan.scheme.weights == "stored":
        return held_bytes
    return weight_bytes(subject.source.spec, plan.scheme, plan.group_size)


def _counter(label: str, total: int, on_work: OnWork) -> Callable[[int], None]:
    done = 0
    on_work(label, 0, total)

    def count(tokens: int) -> None:
        nonlocal done
        done += tokens
        on_work(label, done, total)

    return count
