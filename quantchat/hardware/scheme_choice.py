"""Which scheme a model runs in: the one asked for where it can run, else the widest worth it; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from quantchat.errors import PlanError
from quantchat.hardware.execution import PlanRequest
from quantchat.hardware.holding import holding_refusal
from quantchat.hardware.kv_choice import asked_kv, likely_kv
from quantchat.hardware.linears import group_size_of, linears_of
from quantchat.hardware.memory import GIB, MemoryFit
from quantchat.hardware.op_table import LOWEST_TENSOR_SM
from quantchat.hardware.reasons import Reasons
from quantchat.hardware.stored_types import PLAIN_TYPES, is_packed, runs_as_stored, stored_type
from quantchat.hardware.target import Target
from quantchat.hardware.ways import ways_of
from quantchat.kv_formats import KvFormat
from quantchat.quant.registry import SCHEMES, scheme_named
from quantchat.quant.scheme import Calibration, Scheme, WeightFormat
from quantchat.spec import DecoderSpec

CONTEXT_FOR_SCHEME = 8192
"""Context that must fit beside the weights before auto takes a wider scheme on a card."""
CONTEXT_LOWEST = 512
"""Below this, unless the model itself is shorter, a plan is refused."""
TINY_PARAMETERS = 20_000_000
"""Models this small stay in 16 bits on the CPU: their linears fit its caches."""

CODES_TOGETHER: Mapping[WeightFormat, int] = MappingProxyType(
    {"codebook4": 2, "lut4": 2, "lut3": 8, "progressive4": 2}
)
"""Codes of a row that share bytes."""
FOUND: Mapping[Calibration, str] = MappingProxyType(
    {
        "awq": "the inputs that matter and each group's range",
        "fisher": "how sensitive the loss is to every weight",
        "smooth": "how far outliers of inputs move into the weights",
        "static": "the scale of each linear's inputs",
        "qoq": "the outliers of K and how far each group is clipped",
    }
)

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
        scheme = _auto(case, words)
        if case.request.container != "gguf":
            _explain_rounding(case, scheme, words)
        return scheme
    scheme = scheme_named(case.request.scheme)
    gpu = case.target.gpu
    if gpu is not None and gpu.sm < scheme.lowest_sm:
        raise PlanError(
            f"{scheme.title} needs SM {scheme.lowest_sm}, {gpu.name} is SM {gpu.sm}",
            hint="choose int8 or fp16",
            ways=ways_of("scheme", "int8", "fp16"),
        )
    if scheme.weights == "stored":
        _check_stored(case, words)
    _check_calibration(case.spec, scheme)
    _check_columns(case.spec, scheme)
    words.take(f"{scheme.title}: asked for")
    held = holding_refusal(
        scheme, device=case.target.name, sm=0 if gpu is None else gpu.sm, triton=case.triton
    )
    if held:
        words.refuse(held)
    _explain_rounding(case, scheme, words)
    return scheme


def _auto(case: SchemeCase, words: Reasons) -> Scheme:
    if case.target.gpu is None:
        return _auto_cpu(case, words)
    return _auto_card(case, words) if case.triton else _auto_plain_card(words)


def _check_calibration(spec: DecoderSpec, scheme: Scheme) -> None:
    """Raises PlanError where calibration does not know the model's blocks."""
    if scheme.calibration != "none" and spec.departures:
        raise PlanError(
            f"{scheme.title}: calibration does not know {spec.architecture}'s blocks "
            f"({', '.join(spec.departures)})",
            hint="choose int8, int4 or nf4",
            ways=ways_of("scheme", "int8", "int4", "nf4"),
        )


def _check_columns(spec: DecoderSpec, scheme: Scheme) -> None:
    """Raises PlanError where codes of a row do not fill whole bytes."""
    together = CODES_TOGETHER.get(scheme.weights, 1)
    for linear in linears_of(spec):
        if linear.columns % together:
            raise PlanError(
                f"{scheme.title} packs {together} codes of a row together, and {linear.name} has "
                f"rows of {linear.columns}",
                hint="choose int8",
                ways=ways_of("scheme", "int8"),
            )


def _explain_rounding(case: SchemeCase, scheme: Scheme, words: Reasons) -> None:
    lossy = case.request.stored_types - PLAIN_TYPES
    if scheme.rounding != "none" and lossy:
        words.take(
            f"{scheme.title} from {_types(lossy)}: the file's blocks are decoded and encoded anew, "
            "what they lost does not come back"
        )
    if scheme.calibration != "none":
        words.take(
            f"calibration finds {FOUND[scheme.calibration]}: once, on text that the model writes "
            "itself or on a file of yours, then kept with the packed weights"
        )
    if scheme.calibration == "qoq" and asked_kv(case.request.kv) not in ("int4", "int4r"):
        words.take(f"{scheme.title} smooths K for a cache of 4 bits: KV int4 makes it W4A8KV4")


def _check_stored(case: SchemeCase, words: Reasons) -> None:
    if case.request.container != "gguf" and not is_packed(case.request.stored_types):
        raise PlanError(
            "'as stored' runs the blocks of a GGUF file or a quantized folder, this model is neither",
            hint="choose int4, int8 or fp16",
            ways=ways_of("scheme", "int4", "int8", "fp16"),
        )
    if case.target.gpu is not None and not case.triton:
        raise PlanError(
            "'as stored' needs Triton kernels on a card",
            hint="choose fp16 (decoded at load), or the device cpu",
            ways=(*ways_of("scheme", "fp16"), *ways_of("device", "cpu")),
        )
    if not _runs(case):
        raise PlanError(
            f"'as stored': no packed op reads {_types(case.request.stored_types)}",
            hint="choose int8 or int4 (encoded anew at load), or fp16",
            ways=ways_of("scheme", "int8", "int4", "fp16"),
        )
    _explain_stored(case, words)


def _runs(case: SchemeCase) -> bool:
    """Whether what the file holds is worth running on the target as it is."""
    return runs_as_stored(case.request.stored_types, codes=reads_codes(case.target, case.triton))


def reads_codes(target: Target, triton: bool) -> bool:
    """Whether the tensor-core kernel runs on the target."""
    return triton and target.gpu is not None and target.gpu.sm >= LOWEST_TENSOR_SM


def _explain_stored(case: SchemeCase, words: Reasons) -> None:
    rounded = frozenset(n for n in case.request.stored_types if not stored_type(n).exact)
    if rounded:
        words.refuse(f"{_types(rounded)} as stored: no packed op reads it, rounded to int8 rows")


def _auto_card(case: SchemeCase, words: Reasons) -> Scheme:
    spec, types = case.spec, case.request.stored_types
    if _runs(case):
        words.take(f"as stored: the kernels read {_types(types)}, a wider scheme adds nothing")
        return SCHEMES["stored"]
    if is_packed(types):
        words.refuse(f"as stored: no packed op reads {_types(types - PLAIN_TYPES)}")
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
    if _runs(case):
        exact = frozenset(n for n in types if stored_type(n).exact) - {"F32"}
        words.take(
            f"as stored: the packed ops take {_types(exact)} as they are in the file"
            if exact
            else f"as stored: {_types(types - {'F32'})} is 8-bit already"
        )
        _explain_stored(case, words)
        return SCHEMES["stored"]
    if is_packed(types):
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
