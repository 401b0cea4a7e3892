"""Where a model runs: the card or the processor, and what speaks against a card.

Owns the choice of device and arithmetic type; pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from quantchat.errors import PlanError, UsageError
from quantchat.hardware.facts import Facts, GpuFacts
from quantchat.hardware.ways import ways_of

ComputeDtype: TypeAlias = Literal["float16", "bfloat16", "float32"]

DTYPE_BYTES: Mapping[ComputeDtype, int] = MappingProxyType(
    {"float16": 2, "bfloat16": 2, "float32": 4}
)
LOWEST_SM = 70
LOWEST_SM_CUDA_13 = 75
LOWEST_DRIVER = {13: 580, 12: 525}
"""CUDA major version -> first driver branch that runs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The device a plan is made for."""

    gpu: GpuFacts | None
    name: str
    dtype: ComputeDtype
    bf16_units: bool
    """The CPU multiplies bf16 natively; False where a card is the target."""
    free_bytes: int
    total_bytes: int
    reasons: tuple[str, ...]
    refused: tuple[str, ...]


def card_problem(gpu: GpuFacts, facts: Facts) -> tuple[str, str]:
    """What keeps torch from using a card and the way out; empty strings if nothing does."""
    software = facts.software
    if software.torch is None:
        return "torch is not installed", "pip install torch"
    if software.torch_cuda is None:
        return (
            f"torch {software.torch} is a build without CUDA",
            "install torch's CUDA build, see pytorch.org/get-started",
        )
    cuda = _leading(software.torch_cuda)
    if gpu.sm < LOWEST_SM:
        return f"{gpu.name} is SM {gpu.sm}, the oldest that quantchat runs on is SM {LOWEST_SM}", ""
    if cuda >= 13 and gpu.sm < LOWEST_SM_CUDA_13:
        return (
            f"{gpu.name} is SM {gpu.sm}, and CUDA {software.torch_cuda}, which the installed torch "
            f"was built for, has dropped everything below SM {LOWEST_SM_CUDA_13}",
            "install a torch built for CUDA 12 (2.11 with cu126)",
        )
    driver = _leading(gpu.driver)
    lowest = LOWEST_DRIVER.get(cuda, 0)
    if 0 < driver < lowest:
        return (
            f"driver {gpu.driver} is too old for CUDA {software.torch_cuda}, which needs {lowest}",
            f"update the NVIDIA driver to {lowest} or newer, or install a torch for an older CUDA",
        )
    return "", ""


def choose_target(facts: Facts, device: str) -> Target:
    """The card with the most free memory, or the CPU; raises PlanError if a card was demanded."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device {device!r}", hint="one of: auto, cpu, cuda")
    if device == "cpu":
        return cpu_target(facts, reasons=("CPU: asked for",))
    usable: list[GpuFacts] = []
    refused: list[str] = []
    problems: list[tuple[str, str]] = []
    for gpu in facts.gpus:
        problem = card_problem(gpu, facts)
        if problem[0]:
            problems.append(problem)
            named = problem[0] if gpu.name in problem[0] else f"{gpu.name}: {problem[0]}"
            refused.append("; ".join(part for part in (named, problem[1]) if part))
        else:
            usable.append(gpu)
    if usable:
        best = max(usable, key=lambda gpu: (gpu.free_bytes, -gpu.index))
        return _gpu_target(best, others=len(usable) - 1, refused=tuple(refused))
    if device == "cuda":
        if problems:
            raise PlanError(
                problems[0][0], hint=problems[0][1], ways=ways_of("device", "auto", "cpu")
            )
        why = f" ({facts.notes[0]})" if facts.notes else ""
        raise PlanError(
            f"no CUDA card on this machine{why}",
            hint="leave the device on auto or take cpu",
            ways=ways_of("device", "auto", "cpu"),
        )
    return cpu_target(
        facts,
        reasons=("CPU: no usable card" if facts.gpus else "CPU: no CUDA card found",),
        refused=tuple(refused),
    )


def _gpu_target(gpu: GpuFacts, *, others: int, refused: tuple[str, ...]) -> Target:
    chosen = f"{gpu.name}: SM {gpu.sm}"
    if others:
        chosen += f", the most free memory of {others + 1} cards"
    dtype: ComputeDtype = "bfloat16" if gpu.sm >= 80 else "float16"
    why = (
        "bfloat16: native from SM 80 on, range of fp32"
        if gpu.sm >= 80
        else f"float16: SM {gpu.sm} has no bf16 arithmetic"
    )
    return Target(
        gpu=gpu,
        name=gpu.name,
        dtype=dtype,
        bf16_units=False,
        free_bytes=gpu.free_bytes,
        total_bytes=gpu.total_bytes,
        reasons=(chosen, why),
        refused=refused,
    )


def cpu_target(
    facts: Facts, *, reasons: tuple[str, ...] = (), refused: tuple[str, ...] = ()
) -> Target:
    """The processor as a target."""
    cpu = facts.cpu
    units = sorted(cpu.isa & {"avx512_bf16", "amx_bf16"})
    why = (
        f"bfloat16: this processor has {' and '.join(units)}"
        if units
        else "bfloat16: half the bytes of fp32 in decode, and the packed ops are fast for no other "
        "input; the residual stays fp32"
    )
    return Target(
        gpu=None,
        name=cpu.name,
        dtype="bfloat16",
        bf16_units=bool(units),
        free_bytes=cpu.ram_free_bytes,
        total_bytes=cpu.ram_total_bytes,
        reasons=(*reasons, why),
        refused=refused,
    )


def _leading(version: str) -> int:
    """First number of a version string, 0 where there is none."""
    match = re.match(r"\d+", version)
    return int(match.group()) if match else 0
