"""The ways out of a lack of memory, with the plan's own numbers.

Pure: what is free is handed in. Says only what would help: a narrower scheme, a shorter context,
a narrower KV cache, another device.
"""

from __future__ import annotations

from typing import get_args

from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.kv_choice import kv_refusal
from quantchat.hardware.linears import group_size_of
from quantchat.hardware.memory import (
    RESERVE_SHARE,
    MemoryFit,
    fit,
    kv_bytes_per_token,
    table_bytes,
)
from quantchat.kv_formats import KvFormat
from quantchat.quant.registry import SCHEMES
from quantchat.quant.scheme import Scheme
from quantchat.requests import WayOut
from quantchat.sizes import size_words
from quantchat.spec import DecoderSpec

NARROWER = ("int8", "int4")
"""Schemes that run everywhere, widest first."""
LOWEST_CONTEXT = 512


def ways_out(
    plan: ExecutionPlan, spec: DecoderSpec, *, budget_bytes: int, ram_free_bytes: int
) -> tuple[WayOut, ...]:
    """What would need less, the most useful first.

    `budget_bytes`: free on the device, with what the model itself holds there.
    """
    found = (
        _scheme(plan, spec, budget_bytes),
        _context(plan, spec, budget_bytes),
        _kv(plan, spec),
        _device(plan, ram_free_bytes),
    )
    return tuple(way for way in found if way is not None)


def _scheme(plan: ExecutionPlan, spec: DecoderSpec, budget_bytes: int) -> WayOut | None:
    present = plan.fit.weight_bytes
    best: WayOut | None = None
    for name in NARROWER:
        scheme = SCHEMES[name]
        if scheme.group_sizes and not group_size_of(spec, scheme):
            continue
        memory = _fit(plan, spec, scheme, budget_bytes)
        if memory.weight_bytes >= 0.9 * present:
            continue
        words = f"scheme {name}: {size_words(memory.weight_bytes)} of weights instead of {size_words(present)}"
        best = WayOut(field="scheme", value=name, words=words)
        if memory.needed_bytes <= budget_bytes * (1 - RESERVE_SHARE):
            break
    return best


def _context(plan: ExecutionPlan, spec: DecoderSpec, budget_bytes: int) -> WayOut | None:
    longest = _fit(plan, spec, plan.scheme, budget_bytes).longest_context_tokens
    tokens = min(longest or plan.context_tokens, plan.context_tokens // 2)
    tokens = tokens // plan.page_tokens * plan.page_tokens
    if tokens < LOWEST_CONTEXT:
        return None
    per_token = plan.fit.kv_bytes_per_token
    words = (
        f"a context of {tokens} tokens: {size_words(tokens * per_token)} of KV cache "
        f"instead of {size_words(plan.context_tokens * per_token)}"
    )
    return WayOut(field="context_tokens", value=tokens, words=words)


def _kv(plan: ExecutionPlan, spec: DecoderSpec) -> WayOut | None:
    present = kv_bytes_per_token(spec, plan.kv)
    formats: tuple[KvFormat, ...] = get_args(KvFormat)
    sizes = {name: kv_bytes_per_token(spec, name) for name in formats if not kv_refusal(name, spec)}
    narrower = {name: size for name, size in sizes.items() if size < 0.9 * present}
    if not narrower:
        return None
    # The widest that saves something: int8 before int4, and of equals the better.
    name = "int8" if "int8" in narrower else max(narrower, key=lambda each: narrower[each])
    tokens = plan.context_tokens
    words = (
        f"{name} KV: {size_words(tokens * narrower[name])} of KV cache instead of "
        f"{size_words(tokens * present)}"
    )
    return WayOut(field="kv", value=name, words=words)


def _device(plan: ExecutionPlan, ram_free_bytes: int) -> WayOut | None:
    if plan.device == "cpu":
        return None
    words = f"the device cpu: {size_words(ram_free_bytes)} of memory free"
    return WayOut(field="device", value="cpu", words=words)


def _fit(plan: ExecutionPlan, spec: DecoderSpec, scheme: Scheme, budget_bytes: int) -> MemoryFit:
    table = table_bytes(spec, scheme)
    return fit(
        spec,
        scheme,
        group_size_of(spec, scheme),
        plan.kv,
        context_tokens=plan.context_tokens,
        chunk_tokens=plan.prefill_chunk_tokens,
        free_bytes=budget_bytes,
        total_bytes=plan.fit.total_bytes,
        on_gpu=plan.device == "cuda",
        stored_bytes=plan.fit.weight_bytes - table if scheme.weights == "stored" else 0,
    )
