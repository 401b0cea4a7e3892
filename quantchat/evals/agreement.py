"""The path that answers run against plain torch in float32, on the same stored weights.

Owns the walk: the reference writes greedy answers, the runner is led along the same tokens, one row
a step, and their logits are compared at every step. What differs is arithmetic alone, so this says
whether kernels, graph and cache are right; what quantization costs is `study`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from quantchat.calibration.settings import CalibrationSettings
from quantchat.engine.forced import forced_steps, greedy_sequence, prefill, tapped_runner
from quantchat.engine.loading import build_pool, calibrated_matrices, exported_matrices
from quantchat.errors import Cancelled, PlanError
from quantchat.evals.divergence import Divergence, Positions, compare, concat, summarize
from quantchat.evals.greedy import Answer, write_answers
from quantchat.evals.logprobs import chunk_batch, log_softmax, row_slices
from quantchat.evals.subject import FP32_BYTES, Subject
from quantchat.hardware.execution import ExecutionPlan
from quantchat.model.decoder import Decoder
from quantchat.model.loader import MatrixSource, Phase, load_decoder
from quantchat.model.weights import Matrix, WeightReader, WeightRecipe, read_matrices
from quantchat.ops.select import DTYPES, make_ops
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.tensor import StoredWeight
from quantchat.requests import Message
from quantchat.spec import DecoderSpec

KL_LIMIT = 1e-3
"""Mean over all steps."""
SAME_TOP_LIMIT = 0.99
SPARE_TOKENS = 8
"""Room behind an answer for a step that runs ahead."""

OnWork = Callable[[str, int, int], None]
"""label, done, total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One scheme with one KV precision."""

    model: str
    scheme: str
    detail: str
    kv: str
    device: str
    compute_dtype: str
    captured: bool
    """The steps ran in a CUDA graph."""
    prompts: int
    tokens: int
    """Steps along each answer."""
    steps: Divergence
    """The runner's steps against the reference."""
    same_top: int
    """Steps whose likeliest token is the reference's."""
    whole_answers: int
    """Prompts whose greedy answer is the reference's to the last token."""
    plain: Divergence | None
    """Plain torch in the plan's own number format, the same tokens as one prompt: what arithmetic of
    that width costs without any kernel of ours. None where the steps are plain torch themselves."""

    @property
    def passed(self) -> bool:
        """Within KL_LIMIT and SAME_TOP_LIMIT, every step finite."""
        finite = self.steps.nonfinite_positions == 0
        share = self.same_top / self.steps.positions if self.steps.positions else 0.0
        return finite and self.steps.kl_mean.value < KL_LIMIT and share > SAME_TOP_LIMIT


class _Held:
    """A `MatrixSource` of matrices read once: every decoder stands on the very same tensors."""

    phase: Phase = "read"

    def __init__(self, matrices: list[tuple[str, Matrix]], made: MatrixSource | None) -> None:
        self._matrices = matrices
        self._made = made

    def matrices(
        self, spec: DecoderSpec, device: torch.device, on_part: Callable[[str], None]
    ) -> Iterator[tuple[str, Matrix]]:
        """See MatrixSource.matrices."""
        for name, matrix in self._matrices:
            on_part(name)
            yield name, matrix

    def vector(self, name: str) -> torch.Tensor | None:
        """See MatrixSource.vector."""
        return None if self._made is None else self._made.vector(name)

    def table(self) -> StoredWeight | None:
        """See MatrixSource.table."""
        return None if self._made is None else self._made.table()


@torch.inference_mode()
def agree(
    subject: Subject,
    prompts: tuple[str, ...],
    *,
    scheme: str,
    kv: str,
    device: str,
    tokens: int,
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> Agreement:
    """Compare along `tokens` steps of each prompt's answer. Raises PlanError, Cancelled."""
    encode = subject.tokenizer.encode_chat
    ids = [encode((Message("user", prompt),), add_generation_prompt=True) for prompt in prompts]
    room = max(len(prompt) for prompt in ids) + tokens + SPARE_TOKENS
    plan = _plan(subject, scheme, kv, device, room)
    on_work(f"{scheme}: weights", 0, 0)
    held = _held(subject, plan, cancelled)
    reference = _decoder(subject, plan, _torch_ops(subject, plan, torch.float32), held, cancelled)
    pools = replace(plan, context_tokens=-(-room // plan.page_tokens) * plan.page_tokens)
    on_work("reference", 0, tokens)
    answers = write_answers(
        reference,
        build_pool(reference, replace(pools, context_tokens=pools.context_tokens * len(ids))),
        ids,
        tokens=tokens,
        end_ids=subject.tokenizer.eos_ids,
        chunk_tokens=plan.prefill_chunk_tokens,
        on_step=lambda done: on_work("reference", done, tokens),
        cancelled=cancelled,
    )
    fast = _decoder(subject, plan, make_ops(subject.source.spec, plan), held, cancelled)
    steps = _steps(fast, reference, plan, pools, subject, answers, on_work, cancelled)
    plain = None
    if type(fast.ops) is not TorchOps:
        ops = _torch_ops(subject, plan, DTYPES[plan.compute_dtype])
        decoder = _decoder(subject, plan, ops, held, cancelled)
        plain = summarize(concat(_as_prompts(decoder, reference, pools, answers)))
    return Agreement(
        model=subject.name,
        scheme=plan.scheme.name,
        detail=plan.scheme.title + (f" group {plan.group_size}" if plan.group_size else ""),
        kv=plan.kv,
        device=plan.device_name,
        compute_dtype=plan.compute_dtype,
        captured=plan.graph,
        prompts=len(ids),
        tokens=tokens,
        steps=summarize(concat(steps)),
        same_top=sum(int(positions.same_top.sum()) for positions in steps),
        whole_answers=sum(bool(positions.same_top.all()) for positions in steps),
        plain=plain,
    )


def _plan(subject: Subject, scheme: str, kv: str, device: str, room: int) -> ExecutionPlan:
    """The app's plan with its own context, which shapes the graph; a longer one where it must be."""
    plan = subject.plan(scheme, kv, device, 0)
    return plan if plan.context_tokens >= room else subject.plan(scheme, kv, device, room)


def _recipe(plan: ExecutionPlan, ops: TorchOps) -> WeightRecipe:
    return WeightRecipe(
        scheme=plan.scheme,
        group_size=plan.group_size,
        dtype=DTYPES[plan.compute_dtype],
        device=ops.device,
    )


def _torch_ops(subject: Subject, plan: ExecutionPlan, dtype: torch.dtype) -> TorchOps:
    spec = subject.source.spec
    where = torch.device("cpu") if plan.device == "cpu" else torch.device("cuda", plan.gpu_index)
    needed = (spec.parameters + spec.embedding_parameters) * FP32_BYTES + plan.fit.weight_bytes
    if needed > plan.fit.free_bytes:
        raise PlanError(
            f"{subject.name} and its float32 reference need {needed / 2**30:.1f} GiB, "
            f"{plan.fit.free_bytes / 2**30:.1f} GiB are free",
            hint="take a smaller model",
        )
    return TorchOps(spec, device=where, dtype=dtype)


def _held(subject: Subject, plan: ExecutionPlan, cancelled: Callable[[], bool]) -> _Held:
    """The plan's matrices, rounded or calibrated now."""
    ops = _torch_ops(subject, plan, torch.float32)
    recipe = _recipe(plan, ops)

    def on_part(name: str) -> None:
        if cancelled():
            raise Cancelled("the comparison was stopped")

    if subject.source.export is not None:
        made: MatrixSource | None = exported_matrices(subject.source.export, plan)
    else:
        made = calibrated_matrices(
            subject.source,
            recipe,
            ops,
            CalibrationSettings(),
            lambda phase, done, total: None,
            cancelled,
        )
    found = (
        read_matrices(WeightReader(subject.source, recipe), on_part)
        if made is None
        else made.matrices(subject.source.spec, recipe.device, on_part)
    )
    return _Held(list(found), made)


def _decoder(
    subject: Subject,
    plan: ExecutionPlan,
    ops: TorchOps,
    held: _Held,
    cancelled: Callable[[], bool],
) -> Decoder:
    return load_decoder(
        subject.source,
        ops,
        _recipe(plan, ops),
        context_tokens=plan.context_tokens,
        cache=None,
        made=held,
        on_progress=lambda phase, done, total: None,
        cancelled=cancelled,
    ).decoder


def _steps(
    fast: Decoder,
    reference: Decoder,
    plan: ExecutionPlan,
    pools: ExecutionPlan,
    subject: Subject,
    answers: list[Answer],
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> list[Positions]:
    """Each answer's steps through the runner against the reference's."""
    runner, tap = tapped_runner(fast, build_pool(fast, pools), plan)
    found: list[Positions] = []
    for number, answer in enumerate(answers):
        if cancelled():
            raise Cancelled("the comparison was stopped")
        on_work("steps", number, len(answers))
        pages = -(-(len(answer.prompt) + answer.steps + SPARE_TOKENS) // plan.page_tokens)
        sequence = greedy_sequence(answer.prompt, range(1, 1 + pages), subject.tokenizer)
        prefill(runner, sequence, plan.prefill_chunk_tokens)
        rows = [row.clone() for row in forced_steps(runner, tap, sequence, answer.tokens[:-1])]
        found.append(_compared(torch.stack(rows), reference, answer))
    on_work("steps", len(answers), len(answers))
    return found


def _as_prompts(
    plain: Decoder, reference: Decoder, pools: ExecutionPlan, answers: list[Answer]
) -> list[Positions]:
    """The same tokens read as prompts by plain torch."""
    pool = build_pool(plain, pools)
    found: list[Positions] = []
    for answer in answers:
        ids = (*answer.prompt, *answer.tokens[:-1])
        hidden = plain.forward(chunk_batch(ids, 0, len(ids), pool), pool)[len(answer.prompt) :]
        found.append(_compared(plain.logits(hidden), reference, answer))
    return found


def _compared(logits: torch.Tensor, reference: Decoder, answer: Answer) -> Positions:
    """Logits float32 [T, V] of an answer's steps against the reference's."""
    targets = torch.tensor(answer.tokens[1:], device=logits.device)
    return concat(
        [
            compare(
                log_softmax(reference.logits(answer.hidden[rows])),
                log_softmax(logits[rows]),
                targets[rows],
            )
            for rows in row_slices(answer.steps, logits.shape[1])
        ]
    )
