"""What a card needs before a first answer: kernels of every number of rows, libraries started.

Owns which passes stand for all that will come. On a card that has met the model's shapes before,
nothing is compiled.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeAlias

import torch

from quantchat.engine.decode_rows import DecodeRows, Variant
from quantchat.engine.device_picker import card_picker
from quantchat.engine.graph_runner import ROW_BUCKETS
from quantchat.engine.model import LoadedModel
from quantchat.engine.step_timer import shortened
from quantchat.errors import Cancelled
from quantchat.events import LoadPhase
from quantchat.model.decoder import Decoder
from quantchat.ops.batch import Batch, Span
from quantchat.ops.compiling import compile_kernels, noting
from quantchat.ops.plain import Experts
from quantchat.ops.triton_ops import TritonOps
from quantchat.requests import Sampling

logger = logging.getLogger(__name__)

Report: TypeAlias = Callable[[LoadPhase, int, int, str], None]

PROMPTS: tuple[int, ...] = (1, 3, 5, 12, 24, 48, 56, 96, 404, 1000, 1040)
"""Tokens of a chunk: a number of each class for which some op has a kernel of its own."""
ROUNDED_PROMPTS: tuple[int, ...] = (32, 64, 65, 112, 129, 144, 256, 512, 1000, 1024)
"""More of them, for products in 8 bits."""
STEPS: tuple[Variant, ...] = (
    *(Variant(rows, greedy=True, penalty=False) for rows in ROW_BUCKETS),
    *(Variant(rows, greedy=False, penalty=False) for rows in (1, 2)),
    *(Variant(1, greedy=greedy, penalty=True) for greedy in (True, False)),
)
RUN_PROMPTS: tuple[tuple[int, int], ...] = ((96, 0), (400, 0), (24, 40), (5, 300))
"""New tokens and those before them, of passes that are made for real: the library's products and
attention begin with each of their kinds."""


def warm_card(model: LoadedModel, report: Report, cancelled: Callable[[], bool]) -> None:
    """Compile what is missing, then run prompts; under inference mode. Raises Cancelled."""
    compile_ahead(model, report, cancelled)
    started_s = time.perf_counter()
    run_prompts(model)
    logger.info("prompts run in %.2f s", time.perf_counter() - started_s)


def compile_ahead(model: LoadedModel, report: Report, cancelled: Callable[[], bool]) -> None:
    """Compile what answers will launch, in processes beside; raises Cancelled."""
    started_s = time.perf_counter()
    try:
        with torch.inference_mode(), noting() as jobs:
            _pass_over(model)
    except Exception:  # nothing was launched: what is wrong shows again where it runs
        logger.warning("kernels are compiled as they are met", exc_info=True)
        return
    noted_s = time.perf_counter() - started_s
    if jobs:
        report("compile", 0, len(jobs), "")
        compile_kernels(
            jobs,
            done=lambda count: report("compile", count, len(jobs), ""),
            cancelled=cancelled,
        )
        report("warm", 0, 1, "")
    took_s = time.perf_counter() - started_s
    logger.info("%d kernels compiled in %.1f s, noted in %.2f", len(jobs), took_s, noted_s)
    if cancelled():
        raise Cancelled("loading was stopped")


def _pass_over(model: LoadedModel) -> None:
    plan, whole = model.plan, model.decoder
    decoder, pool = shortened(whole, model.pool, distinct_layers(whole))
    rounded = ROUNDED_PROMPTS if plan.activations in ("int8", "fp8") else ()
    most = min(plan.context_tokens, max(plan.prefill_chunk_tokens, PROMPTS[-1]))
    for count in (*PROMPTS, *rounded, *_expert_prompts(decoder)):
        batch = prompt_batch(model, min(count, most), 0)
        hidden = decoder.forward(batch, pool)
        logits = decoder.logits(hidden[-1:])[0]
    picker, seen = card_picker(decoder), torch.zeros_like(logits, dtype=torch.bool)
    for sampling in (Sampling(temperature=0), Sampling()):
        for counted in (None, seen):
            picker.pick(logits, sampling, seed=0, index=0, seen=counted)
    if not plan.graph or not whole.capturable:
        return
    assert isinstance(decoder.ops, TritonOps), "a captured step runs our kernels"
    buffers = DecodeRows(
        decoder,
        pool,
        rows=ROW_BUCKETS[-1],
        context_tokens=plan.context_tokens,
        dependent=decoder.ops.dependent_launch,
    )
    for variant in STEPS:
        buffers.step(variant)


def _expert_prompts(decoder: Decoder) -> tuple[int, ...]:
    """Tokens of chunks that experts serve with launches of their own."""
    banks = {
        block.mlp.spec.active: block.mlp.bank
        for block in decoder.blocks
        if isinstance(block.mlp, Experts)
    }
    return tuple(
        count
        for active, bank in banks.items()
        if bank is not None
        for count in bank.row_counts(active)
    )


def run_prompts(model: LoadedModel) -> None:
    """Chunks of prompts for real, with the head behind them."""
    decoder, pool, room = model.decoder, model.pool, model.plan.context_tokens
    for count, before in RUN_PROMPTS:
        count = min(count, room)
        batch = prompt_batch(model, count, min(before, room - count))
        hidden = decoder.forward(batch, pool)
        decoder.logits(hidden[-1:]).argmax().item()


def prompt_batch(model: LoadedModel, count: int, before: int) -> Batch:
    """So many tokens behind others, on the first pages."""
    pool, device = model.pool, model.decoder.ops.device
    slots = torch.arange(before, before + count, device=device)
    length = before + count
    pages = tuple(range(-(-length // pool.page_tokens)))
    span = Span(0, count, length, pages)
    return Batch(torch.zeros_like(slots), slots.to(torch.int32), slots, count == 1, (span,))


def distinct_layers(decoder: Decoder) -> tuple[int, ...]:
    """The first layer of each kind."""
    chosen: dict[object, int] = {}
    for i, layer in enumerate(decoder.every_layer):
        forms = tuple(
            (type(op), op.kernel, op.out_features, op.in_features) for op in layer.linears
        )
        spec = decoder.spec
        kind = (forms, spec.window(i) > 0, spec.rope_kind(i) if spec.rope_kinds else 0)
        chosen.setdefault(kind, i)
    return tuple(chosen.values())
