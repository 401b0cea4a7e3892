"""What an exception says about the device: out of memory, lost, busy, or merely failed.

Reads types and texts of torch, CUDA, cuBLAS and Triton; knows no engine and touches no device.
A lost device is one whose CUDA context is dead: every later call fails until the process ends.
"""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

TroubleKind: TypeAlias = Literal["memory", "lost", "busy", "failed"]

MEMORY = (
    "out of memory",
    "cudaerrormemoryallocation",
    "cuda_error_out_of_memory",
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",
    "cudnn_status_alloc_failed",
    "cusolver_status_alloc_failed",
    "can't allocate memory",
    "not enough memory: you tried to allocate",
)
"""cuBLAS says "not initialized" where its handle finds no memory."""
LOST = (
    "illegal memory access",
    "illegal address",
    "illegal instruction",
    "misaligned address",
    "unspecified launch failure",
    "device-side assert",
    "launch timed out",
    "hardware stack error",
    "invalid program counter",
    "ecc error",
    "nvlink error",
    "gpu is lost",
    "device lost",
    "fallen off the bus",
    "context is destroyed",
    "cuda error: unknown error",
    "external device",
    "mps client",
    "contained error",
)
BUSY: tuple[tuple[str, str, str], ...] = (
    (
        "busy or unavailable",
        "another program has the card to itself",
        "close it, or set the compute mode to default (nvidia-smi -c 0)",
    ),
    (
        "exclusive-thread device already in use",
        "another program has the card to itself",
        "close it, or set the compute mode to default (nvidia-smi -c 0)",
    ),
    (
        "driver version is insufficient",
        "the NVIDIA driver is too old for the installed torch",
        "update the driver, or install a torch for an older CUDA",
    ),
    (
        "driver on your system is too old",
        "the NVIDIA driver is too old for the installed torch",
        "update the driver, or install a torch for an older CUDA",
    ),
    (
        "forward compatibility was attempted",
        "the NVIDIA driver and its libraries do not fit together",
        "restart the machine after a driver update",
    ),
    (
        "driver/library version mismatch",
        "the NVIDIA driver and its libraries do not fit together",
        "restart the machine after a driver update",
    ),
    (
        "system not yet initialized",
        "the card's fabric manager does not run",
        "start nvidia-fabricmanager",
    ),
    ("found no nvidia driver", "there is no NVIDIA driver", "install one"),
    ("no cuda-capable device", "no card is visible", "look at CUDA_VISIBLE_DEVICES"),
    ("invalid device ordinal", "the card is no longer visible", "look at CUDA_VISIBLE_DEVICES"),
    (
        "no kernel image is available",
        "the installed torch has no code for this card",
        "install a torch build that supports it",
    ),
    ("torch not compiled with cuda", "this torch is a build without CUDA", "install a CUDA build"),
    (
        "initialization error",
        "the card could not be started",
        "see nvidia-smi, and start quantchat again",
    ),
    (
        "cuda unknown error",
        "the card could not be started",
        "see nvidia-smi, and start quantchat again",
    ),
)
"""In the text, what it means, what to do: errors of starting a card, before any model is on it."""
DEVICE_WORDS = ("cuda", "cublas", "cudnn", "cusolver", "nvrtc", "triton")
ASKED = re.compile(r"tried to allocate ([\d.]+) ?(bytes|kib|mib|gib|tib)?", re.IGNORECASE)
UNITS = {"bytes": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
MAX_CHAIN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What went wrong on a device."""

    kind: TroubleKind
    reason: str
    """One line in words."""
    hint: str = ""
    asked_bytes: int = 0
    """The allocation that failed, 0 where nothing says how large it was."""


def trouble_of(error: BaseException) -> Trouble | None:
    """What an exception says about the device, and those that it came from; None for others."""
    texts = [(type(one).__name__, str(one)) for one in _chain(error)]
    lowered = [f"{name}: {text}".lower() for name, text in texts]
    everything = "\n".join(lowered)
    reason = first_line(texts[0][1])
    if any(mark in everything for mark in LOST) and _names_device(everything):
        mark = next(mark for mark in LOST if mark in everything)
        line = next(text for _, text in texts if mark in text.lower())
        return Trouble(kind="lost", reason=first_line(line))
    if any(name in ("OutOfMemoryError", "MemoryError") for name, _ in texts) or any(
        mark in everything for mark in MEMORY
    ):
        return Trouble(kind="memory", reason=reason, asked_bytes=_asked_bytes(everything))
    for mark, meaning, hint in BUSY:
        if mark in everything and _names_device(everything):
            return Trouble(kind="busy", reason=meaning, hint=hint)
    if isinstance(error, RuntimeError) and _names_device(lowered[0]):
        return Trouble(kind="failed", reason=reason)
    return None


def first_line(text: str) -> str:
    """The first line of a message, cut to what fits a dialog."""
    return text.strip().partition("\n")[0][:200]


def forget_frames(error: BaseException) -> None:
    """Let go of what the frames of an exception hold, tensors above all."""
    for one in _chain(error):
        with contextlib.suppress(RuntimeError):
            traceback.clear_frames(one.__traceback__)


def _names_device(text: str) -> bool:
    return any(word in text for word in (*DEVICE_WORDS, "accelerator", "nvidia"))


def _asked_bytes(text: str) -> int:
    found = ASKED.search(text)
    if found is None:
        return 0
    return int(float(found[1].rstrip(".")) * UNITS[(found[2] or "bytes").lower()])


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what it came from, nearest first."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting and len(seen) < MAX_CHAIN:
        one = waiting.pop(0)
        if one is None or any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        waiting += [one.__cause__, one.__context__]
