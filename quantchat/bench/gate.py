"""Correctness before speed: a loaded scheme against the same weights in float32 torch operations.

Two checks. Logits of a prompt and of decode steps, fed the same tokens, against a reference decoder
whose stored weights are made dense in float32: the steps run in the runner that answers run in, its
graph included. And the runner's own greedy tokens, of one row and of as many as will be timed, each
of which must be (nearly) the best one by the logits of the text before it. How nearly is measured:
where inputs are rounded to codes, any change of a last bit tips some over, and layer upon layer two
right orders of the same sums end as far apart as a nudge of the input moves either of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from quantchat.bench.contest import GateResult, row_prompts
from quantchat.bench.rounded_inputs import ReferenceOps
from quantchat.engine.forced import forced_steps, greedy_sequence, prefill, tapped_runner
from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.op_table import CPU_COPY_ROWS
from quantchat.kv_formats import KvFormat
from quantchat.model.decoder import Decoder
from quantchat.ops.batch import Batch, Span
from quantchat.ops.embedding import Embedding
from quantchat.ops.kv_pool import KvPool
from quantchat.quant.tensor import DenseWeight

if TYPE_CHECKING:
    from quantchat.bench.own import OwnEngine, Subject

WHOLE_PARAMETERS = 600_000_000
"""Models up to this size are compared whole, larger ones in their first layers and head."""
PART_LAYERS = 4
KL_LIMIT: Mapping[KvFormat, float] = MappingProxyType(
    {"16bit": 0.02, "int8": 0.02, "fp8": 0.02, "int4": 0.5, "int4r": 0.5, "k8v4": 0.5}
)
"""Mean over positions, by KV precision; packed int8 with bf16 activations costs 0.008 over 30 layers."""
ERROR_LIMIT: Mapping[KvFormat, float] = MappingProxyType(
    {"16bit": 0.1, "int8": 0.1, "fp8": 0.1, "int4": 0.4, "int4r": 0.4, "k8v4": 0.4}
)
"""Of centred logits: random weights give flat distributions, whose KL says little.

The reference keeps its cache in the same precision, yet values at the edge of two codes fall to
either side: at 4 bits as much as rounding itself costs (0.16, and 0.14 in KL)."""
ROUNDED_LIMIT = 0.4
"""Of KL and error where inputs are always rounded: there, too, values fall to either side."""
REGRET_LIMIT = 0.05
"""Of the logits' spread (max - mean): how much worse than the best a greedy token may score."""
REGRET_PER_DRIFT = 1.5
"""The same, of the relative change of logits when the input is nudged.

Two tokens' noise differs by sqrt(2) x drift of a standard deviation, the spread is 4.4 of them over
128k tokens, and the worst of some tens of draws lies 3 to 4.5 out."""
WORST_REGRET_LIMIT = 0.5
"""Whatever the drift: a token picked blindly scores 1."""
NUDGE = 2.0**-8
"""Half to one unit in the last place of bf16."""
RUNNER_TOKENS = 8
PAGE_TOKENS = 16
EXACT_ROWS = CPU_COPY_ROWS - 1
"""Rows up to which no scheme rounds inputs for the sake of speed, on any device."""


def piece_tokens(plan: ExecutionPlan) -> int:
    """Tokens of a prompt that the gate reads at a time.

    A prompt as a whole, but for schemes that round the inputs of many rows alone: what that costs
    is theirs and no error, and in random weights it grows to a sixth of the logits.
    """
    rounds_many = plan.activations != "16bit" and not plan.all_rows
    return EXACT_ROWS if rounds_many else plan.prefill_chunk_tokens


@torch.inference_mode()
def check(engine: OwnEngine, subject: Subject, ids: list[int]) -> GateResult:
    """Compare `engine` on `ids`: three quarters as a prompt, the rest one token a step."""
    decoder = engine.model.decoder
    spec = subject.source.spec
    layers = spec.layers if spec.parameters <= WHOLE_PARAMETERS else min(PART_LAYERS, spec.layers)
    part = decoder.cut(tuple(range(layers)))
    head = max(1, len(ids) * 3 // 4)
    pool = _front(engine.model.pool, layers)
    prompt = prompt_logits(part, pool, ids[:head], piece_tokens=piece_tokens(engine.plan))
    logits = torch.cat((prompt, _steps(engine, part, ids, head)))
    reference = reference_decoder(engine, subject, layers)
    truth = prompt_logits(reference, pool_like(reference, engine.plan.kv, len(ids)), ids)
    kl, error, same = compare(logits, truth)
    regret = max(_runner_regret(engine, ids, rows) for rows in {1, engine.rows_most})
    # Only codes of inputs amplify a last bit: elsewhere tokens agree far closer than a nudge moves them.
    most_regret = regret_limit(drift(engine, ids) if engine.plan.all_rows else 0.0)
    kl_limit, error_limit = limits(engine.plan)
    return GateResult(
        positions=len(ids),
        layers=layers,
        steps=len(ids) - head,
        kl_mean=kl,
        relative_error=error,
        same_top_share=same,
        worst_regret=regret,
        regret_limit=most_regret,
        passed=kl <= kl_limit and error <= error_limit and regret <= most_regret,
    )


def regret_limit(drift: float) -> float:
    """Most that a greedy token may fall behind the best, where a nudge moves logits by `drift`."""
    return min(max(REGRET_LIMIT, REGRET_PER_DRIFT * drift), WORST_REGRET_LIMIT)


def limits(plan: ExecutionPlan) -> tuple[float, float]:
    """Largest mean KL and relative error that pass."""
    lowest = ROUNDED_LIMIT if plan.all_rows else 0.0
    return max(KL_LIMIT[plan.kv], lowest), max(ERROR_LIMIT[plan.kv], lowest)


def compare(logits: torch.Tensor, truth: torch.Tensor) -> tuple[float, float, float]:
    """Mean KL(truth || logits), relative error, share of equal top tokens. float [T, V] each."""
    wanted = torch.log_softmax(truth.float(), dim=-1)
    given = torch.log_softmax(logits.float(), dim=-1)
    kl = (wanted.exp() * (wanted - given)).sum(dim=-1).mean()
    same = (logits.argmax(dim=-1) == truth.argmax(dim=-1)).float().mean()
    centred = truth.float() - truth.float().mean(dim=-1, keepdim=True)
    off = logits.float() - logits.float().mean(dim=-1, keepdim=True) - centred
    return _worst_if_nan(kl), _worst_if_nan(off.norm() / centred.norm()), float(same)


def _worst_if_nan(value: torch.Tensor) -> float:
    return float(torch.nan_to_num(value, nan=float("inf")))


def reference_decoder(engine: OwnEngine, subject: Subject, layers: int) -> Decoder:
    """The first `layers` of the model, stored as the scheme stores them, run dense in float32.

    Calibration looks at the whole model, so that one is made whole and then cut.
    """
    from quantchat.bench.own import place

    plan, device = engine.plan, engine.model.decoder.ops.device
    whole = subject.source.spec
    cut = dataclasses.replace(whole, layers=layers)
    at_once = whole if plan.scheme.calibration != "none" and not subject.random else cut
    decoder = place(
        subject,
        plan,
        ReferenceOps(at_once, plan, device),
        dataclasses.replace(subject.source, spec=at_once),
        engine.model.decoder.ops.dtype,
    )
    return decoder.cut(tuple(range(layers)))


def prompt_logits(
    decoder: Decoder, pool: KvPool, ids: list[int], *, piece_tokens: int = 0
) -> torch.Tensor:
    """Logits float32 [T, V] of every position, read into the pool's first pages.

    In one piece, or in pieces of so many tokens.
    """
    device = decoder.ops.device
    pages = tuple(range(1, 1 - (-len(ids) // pool.page_tokens)))
    parts = []
    for start in range(0, len(ids), piece_tokens or len(ids)):
        stop = min(start + (piece_tokens or len(ids)), len(ids))
        positions = torch.arange(start, stop, device=device)
        batch = Batch(
            torch.tensor(ids[start:stop], device=device),
            positions.to(torch.int32),
            positions + pool.page_tokens,
            stop - start == 1,
            (Span(0, stop - start, stop, pages),),
        )
        parts.append(decoder.logits(decoder.forward(batch, pool)))
    return torch.cat(parts)


def _steps(engine: OwnEngine, part: Decoder, ids: list[int], head: int) -> torch.Tensor:
    """Logits float32 [T - head, V] of the steps behind `head` tokens, by a runner of its own."""
    pool = _front(engine.model.pool, part.spec.layers)
    runner, tap = tapped_runner(part, pool, engine.plan)
    pages = engine.sequence(ids, len(ids)).pages
    sequence = greedy_sequence(ids[:head], pages, engine.model.tokenizer)
    prefill(runner, sequence, piece_tokens(engine.plan))
    return torch.stack([row.clone() for row in forced_steps(runner, tap, sequence, ids[head:])])


def _front(pool: KvPool, layers: int) -> KvPool:
    """The pool seen by a decoder of fewer layers."""
    if layers == len(pool.layers):
        return pool
    view = object.__new__(KvPool)
    view.__dict__.update(pool.__dict__)
    view.layers = pool.layers[:layers]
    return view


def pool_like(decoder: Decoder, precision: KvFormat, tokens: int) -> KvPool:
    """Pages for one prompt, rounded as the scheme's are; "16bit" stays float32."""
    return KvPool(
        decoder.spec,
        pages=-(-tokens // PAGE_TOKENS) + 1,
        page_tokens=PAGE_TOKENS,
        precision=precision,
        dtype=torch.float32,
        device=decoder.ops.device,
    )


def _runner_regret(engine: OwnEngine, ids: list[int], rows: int) -> float:
    """Worst gap of the runner's greedy tokens in any of `rows` rows, as a share of the spread."""
    length = len(ids) + RUNNER_TOKENS
    sequences = tuple(
        engine.sequence(prompt, length, row) for row, prompt in enumerate(row_prompts(ids, rows))
    )
    for sequence in sequences:
        sequence.tokens.append(prefill(engine.runner, sequence, piece_tokens(engine.plan)))
    while any(sequence.answer_tokens < RUNNER_TOKENS for sequence in sequences):
        for sequence, token in engine.runner.decode(sequences):
            sequence.computed = len(sequence.tokens)
            sequence.tokens.append(token)
    engine.runner.flush()
    for sequence in sequences:
        engine.runner.leave(sequence)
    return max(_regret(engine, sequence.tokens[:length], len(ids)) for sequence in sequences)


def drift(engine: OwnEngine, ids: list[int]) -> float:
    """Relative change of the prompt's logits when embedded values move by about their last bit."""
    decoder, pool = engine.model.decoder, engine.model.pool
    device, dtype = decoder.ops.device, decoder.ops.dtype
    rows = decoder.embedding(torch.tensor(ids, device=device))
    turns = 1 - 2 * (torch.arange(rows.shape[1], device=device) % 2)
    nudged = DenseWeight((rows * (1 + NUDGE * turns)).to(dtype))
    moved = dataclasses.replace(decoder, embedding=Embedding(nudged))
    piece = piece_tokens(engine.plan)
    right = prompt_logits(decoder, pool, ids, piece_tokens=piece)
    return compare(prompt_logits(moved, pool, list(range(len(ids))), piece_tokens=piece), right)[1]


def _regret(engine: OwnEngine, text: list[int], prompt_tokens: int) -> float:
    """Worst gap between the best logit and that of the token that came, over the answer."""
    decoder, pool = engine.model.decoder, engine.model.pool
    logits = prompt_logits(decoder, pool, text, piece_tokens=piece_tokens(engine.plan))
    worst = 0.0
    for place in range(prompt_tokens, len(text)):
        row = logits[place - 1]
        best = row.max()
        gap = float((best - row[text[place]]) / (best - row.mean()))
        worst = max(worst, gap) if gap == gap else float("inf")
    return worst
