"""Which scheme a model runs in: the one asked for where it can run, else the widest worth it; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from quantchat.errors import PlanError
from quantchat.hardware.execution import PlanRequest
from quantchat.hardware.kv_choice import asked_kv, likely_kv
from quantchat.hardware.memory import GIB, KvFormat, MemoryFit, group_size_of
from quantchat.hardware.op_table import runs_as_stored, stored_type
from quantchat.hardware.reasons import Reasons
from quantchat.hardware.target import Target
from quantchat.quant.registry import SCHEMES, scheme_named
from quantchat.quant.scheme import Scheme
from quantchat.spec import DecoderSpec

CONTEXT_FOR_SCHEME = 8192
"""Context that must fit beside the weights before auto takes a wider scheme on a card."""
CONTEXT_LOWEST = 512
"""Below this, unless the model itself is shorter, a plan is refused."""
TINY_PARAMETERS = 20_000_000
"""Models this small stay in 16 bits on the CPU: their linears fit its caches."""

Fit: TypeAlias = Callable[[Scheme, KvFormat, int], MemoryFit]
"""Scheme, KV and context -> whether they fit on the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeCase:
    """What the choice depends on."""

    spec: DecoderSpec
    request: PlanRequest
    target: Target
    triton: bool
    """Our kernels run on the target."""
    fit: Fit


def choose_scheme(case: SchemeCase, words: Reasons) -> Scheme:
    """The scheme; raises PlanError where the one asked for cannot run, naming what can."""
    if case.request.scheme == "auto":
        if case.target.gpu is None:
            return _auto_cpu(case, words)
        return _auto_card(case, words) if case.triton else _auto_plain_card(words)
    scheme = scheme_named(case.request.scheme)
    gpu = case.target.gpu
    if gpu is not None and gpu.sm < scheme.lowest_sm:
        raise PlanError(
            f"{scheme.title} needs SM {scheme.lowest_sm}, {gpu.name} is SM {gpu.sm}",
            hint="choose int8 or fp16",
        )
    if scheme.weights == "stored":
        _check_stored(case, words)
    words.take(f"{scheme.title}: asked for")
    if gpu is not None and not case.triton and scheme.weights != "dense":
        words.refuse(
            f"{scheme.title} in memory: nothing reads its codes without our kernels, they are "
            "rounded and then held in 16 bits"
        )
    return scheme


def _check_stored(case: SchemeCase, words: Reasons) -> None:
    if case.request.container != "gguf":
        raise PlanError(
            "'as stored' runs the blocks of a GGUF file, this model is not one",
            hint="choose int4, int8 or fp16",
        )
    if case.target.gpu is not None and not case.triton:
        raise PlanError(
            "'as stored' needs Triton kernels on a card",
            hint="choose fp16 (decoded at load), or the device cpu",
        )
    if not runs_as_stored(case.request.stored_types):
        raise PlanError(
            f"'as stored': no packed op reads {_types(case.request.stored_types)}",
            hint="choose int8 or int4 (encoded anew at load), or fp16",
        )
    _explain_stored(case, words)


def _explain_stored(case: SchemeCase, words: Reasons) -> None:
    rounded = frozenset(n for n in case.request.stored_types if not stored_type(n).exact)
    if rounded:
        words.refuse(f"{_types(rounded)} as stored: no packed op reads it, rounded to int8 rows")


def _auto_card(case: SchemeCase, words: Reasons) -> Scheme:
    spec, types = case.spec, case.request.stored_types
    if case.request.container == "gguf" and runs_as_stored(types):
        words.take(f"as stored: the kernels read {_types(types)}, a wider scheme adds nothing")
        return SCHEMES["stored"]
    context = case.request.context_tokens or min(CONTEXT_FOR_SCHEME, spec.context)
    kv = likely_kv(asked_kv(case.request.kv), case.target.gpu)
    for name in ("fp16", "int8", "int4"):
        scheme = SCHEMES[name]
        if scheme.group_sizes and not group_size_of(spec, scheme):
            words.refuse(f"{scheme.title}: no group size divides this model")
            continue
        estimate = case.fit(scheme, kv, context)
        needed = f"{estimate.needed_bytes / GIB:.1f} GiB with {context} tokens of context"
        free = f"{estimate.free_bytes / GIB:.1f} GiB are free"
        if estimate.verdict != "too_large":
            words.take(f"{scheme.title}: the widest scheme that fits, {needed}, {free}")
            return scheme
        words.refuse(f"{scheme.title}: needs {needed}, {free}")
    for name in ("int4", "int8"):
        scheme = SCHEMES[name]
        if group_size_of(spec, scheme) or not scheme.group_sizes:
            words.take(f"{scheme.title}: the smallest scheme, with a shorter context")
            return scheme
    raise AssertionError("int8 has no groups")


def _auto_plain_card(words: Reasons) -> Scheme:
    words.take("16-bit: without our kernels every scheme is held in 16 bits, none is smaller")
    return SCHEMES["fp16"]


def _auto_cpu(case: SchemeCase, words: Reasons) -> Scheme:
    spec, types = case.spec, case.request.stored_types
    if case.request.container == "gguf" and runs_as_stored(types):
        exact = frozenset(n for n in types if stored_type(n).exact) - {"F32"}
        words.take(
            f"as stored: the packed ops take {_types(exact)} as they are in the file"
            if exact
            else f"as stored: {_types(types - {'F32'})} is 8-bit already"
        )
        _explain_stored(case, words)
        return SCHEMES["stored"]
    if case.request.container == "gguf" and types - {"F32", "F16", "BF16"}:
        words.refuse(f"as stored: no packed op reads {_types(types - {'F32'})}")
    if spec.linear_parameters < TINY_PARAMETERS:
        words.take("16-bit: a model this small gains nothing from packing")
        return SCHEMES["fp16"]
    context = case.request.context_tokens or min(CONTEXT_LOWEST, spec.context)
    kv = likely_kv(asked_kv(case.request.kv), None)
    narrow = SCHEMES["int4"]
    eight = case.fit(SCHEMES["int8"], kv, context)
    if eight.verdict == "too_large" and group_size_of(spec, narrow):
        words.refuse(
            f"int8: needs {eight.needed_bytes / GIB:.1f} GiB, "
            f"{eight.free_bytes / GIB:.1f} GiB are free"
        )
        words.take("int4: int8 does not fit in memory")
        return narrow
    words.take(
        "int8: decode is bound by weight bytes, the packed op is faster than 16 bits and next to "
        "lossless"
    )
    return SCHEMES["int8"]


def _types(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "these tensor types"
