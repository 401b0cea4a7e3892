"""Which precision the KV cache takes, with the reasons; pure. Bytes are `memory`'s."""

from __future__ import annotations

from collections.abc import Callable

from quantchat.errors import PlanError, UsageError
from quantchat.hardware.facts import GpuFacts
from quantchat.hardware.memory import KV_FORMATS, KvFormat, MemoryFit
from quantchat.spec import DecoderSpec

LOWEST_FP8_SM = 89
"""First card that converts fp8 by itself."""
INT4_HEAD = 8
"""Values of a head that the int4 cache keeps in one word."""


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


def _reasons(kv: KvFormat, spec: DecoderSpec, gpu: GpuFacts | None) -> tuple[str, ...]:
    if kv == "int4" and spec.head_dim % INT4_HEAD:
        raise PlanError(
            f"int4 KV packs heads of a multiple of {INT4_HEAD} values, this model's have "
            f"{spec.head_dim}",
            hint="choose int8 or fp8 KV",
        )
    asked = f"KV {kv}: asked for"
    if kv == "fp8" and gpu is not None and gpu.sm < LOWEST_FP8_SM:
        return asked, f"fp8 KV is decoded by bit operations: SM {gpu.sm} has no instruction for it"
    if kv == "int4":
        return asked, "int4 KV costs quality; `quantchat eval --kv` measures how much"
    return (asked,)
