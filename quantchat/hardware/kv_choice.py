"""Which precision the KV cache takes, with the reasons; pure. Bytes are `memory`'s."""

from __future__ import annotations

from collections.abc import Callable

from quantchat.errors import PlanError, UsageError
from quantchat.hardware.facts import GpuFacts
from quantchat.hardware.memory import MemoryFit
from quantchat.hardware.ways import ways_of
from quantchat.kv_formats import KV_FORMATS, KV_VECTORS, KvFormat
from quantchat.spec import DecoderSpec

LOWEST_FP8_SM = 89
"""First card that converts fp8 by itself."""
INT4_HEAD = 8
"""Values of a head that 4-bit vectors keep in one word."""


def asked_kv(name: str) -> KvFormat | None:
    """The format of that name; None for auto. Raises UsageError for other words."""
    if name != "auto" and name not in KV_FORMATS:
        raise UsageError(
            f"unknown KV precision {name!r}", hint=f"one of: auto, {', '.join(KV_FORMATS)}"
        )
    return KV_FORMATS.get(name)


def likely_kv(asked: KvFormat | None, gpu: GpuFacts | None) -> KvFormat:
    """What the cache will take as far as is known before the scheme is."""
    if asked is not None:
        return asked
    return "int8" if gpu is not None and gpu.sm < 80 else "16bit"


def choose_kv(
    asked: KvFormat | None,
    spec: DecoderSpec,
    gpu: GpuFacts | None,
    wanted_tokens: int,
    fit: Callable[[KvFormat], MemoryFit],
) -> tuple[KvFormat, tuple[str, ...]]:
    """The format and why; raises PlanError where the one asked for cannot hold the model's heads."""
    if asked is not None:
        return asked, _reasons(asked, spec, gpu)
    if gpu is None:
        return "16bit", ("KV 16bit: on the CPU packing the cache saves no time",)
    if gpu.sm < 80:
        return "int8", (f"KV int8: half the bytes, cards of SM {gpu.sm} have little memory",)
    wide = fit("16bit").longest_context_tokens
    if wide < min(wanted_tokens, fit("int8").longest_context_tokens):
        why = f"KV int8: in 16 bits {wide} tokens fit, {wanted_tokens} are wanted"
        return "int8", (why,)
    return "16bit", (f"KV 16bit: {wanted_tokens} tokens fit without rounding the cache",)


def kv_refusal(kv: KvFormat, spec: DecoderSpec) -> str:
    """Why the cache of this model cannot take the format; empty where it can."""
    size = spec.head_dim
    if kv == "int4r" and not has_rotation(spec):
        return (
            f"int4r KV rotates heads by a Hadamard matrix, which needs a power of two; this model's "
            f"have {size} values"
        )
    if "int4" in KV_VECTORS[kv] and size % INT4_HEAD:
        return f"{kv} KV packs heads of a multiple of {INT4_HEAD} values, this model's have {size}"
    return ""


def has_rotation(spec: DecoderSpec) -> bool:
    """Whether heads have a Hadamard matrix of their size: powers of two."""
    return spec.head_dim & (spec.head_dim - 1) == 0


def _reasons(kv: KvFormat, spec: DecoderSpec, gpu: GpuFacts | None) -> tuple[str, ...]:
    refusal = kv_refusal(kv, spec)
    if refusal:
        packed = spec.head_dim % INT4_HEAD == 0
        others = "k8v4, int4 or int8" if packed else "int8 or fp8"
        raise PlanError(refusal, hint=f"choose {others} KV", ways=ways_of("kv", "int8"))
    asked = f"KV {kv}: asked for"
    if kv == "fp8" and gpu is not None and gpu.sm < LOWEST_FP8_SM:
        return asked, f"fp8 KV is decoded by bit operations: SM {gpu.sm} has no instruction for it"
    if kv == "int4" and has_rotation(spec):
        return (
            asked,
            "int4 KV costs quality; int4r costs less of it for as many bytes, k8v4 less still",
        )
    if kv == "int4":
        return asked, "int4 KV costs quality; k8v4, with K in 8 bits, costs less"
    if kv == "int4r":
        return (
            asked,
            "int4r KV turns q and k by a Hadamard matrix, so that 4 bits hold outliers of K",
        )
    if kv == "k8v4":
        return asked, "k8v4 KV keeps K in 8 bits, whose errors reach scores, and V in 4"
    return (asked,)
