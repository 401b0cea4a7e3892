"""Exceptions as torch, CUDA, cuBLAS and Triton write them, and what is made of them."""

from __future__ import annotations

import weakref

import pytest
import torch

from quantchat.engine.device_errors import forget_frames, trouble_of

CUDA_OOM = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.19 GiB of "
    "which 1.06 GiB is free. Including non-PyTorch memory, this process has 78.12 GiB in use."
)
SEE = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the "
    "stacktrace below might be incorrect."
)


@pytest.mark.parametrize(
    ("error", "asked_bytes"),
    [
        (torch.OutOfMemoryError(CUDA_OOM), int(2.5 * 2**30)),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU"), 20 << 20),
        (RuntimeError("CUDA error: out of memory" + SEE), 0),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), 0),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling"), 0),
        (RuntimeError("Triton Error [CUDA]: out of memory"), 0),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), 0),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 17592186044416 bytes. Error code 12"
            ),
            17592186044416,
        ),
        (MemoryError(), 0),
    ],
)
def test_lack_of_memory(error: Exception, asked_bytes: int) -> None:
    trouble = trouble_of(error)
    assert trouble is not None and trouble.kind == "memory"
    assert trouble.asked_bytes == asked_bytes


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: an illegal memory access was encountered" + SEE,
        "CUDA error: unspecified launch failure" + SEE,
        "CUDA error: device-side assert triggered" + SEE,
        "CUDA error: misaligned address" + SEE,
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: the launch timed out and was terminated",
        "Triton Error [CUDA]: an illegal memory access was encountered",
        "CUDA error: unknown error" + SEE,
    ],
)
def test_a_dead_context(text: str) -> None:
    trouble = trouble_of(RuntimeError(text))
    assert trouble is not None and trouble.kind == "lost"
    assert "\n" not in trouble.reason


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "another program"),
        ("CUDA error: exclusive-thread device already in use by a different thread", "another"),
        ("CUDA error: CUDA driver version is insufficient for CUDA runtime version", "too old"),
        (
            "The NVIDIA driver on your system is too old (found version 11040). Please update",
            "too old",
        ),
        (
            "Found no NVIDIA driver on your system. Please check that you have an NVIDIA",
            "no NVIDIA",
        ),
        (
            "Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
            "fab",
        ),
        ("CUDA error: no kernel image is available for execution on the device", "no code"),
        ("CUDA unknown error - this may be due to an incorrectly set up environment", "started"),
    ],
)
def test_a_card_that_cannot_be_used(text: str, says: str) -> None:
    trouble = trouble_of(RuntimeError(text))
    assert trouble is not None and trouble.kind == "busy"
    assert says in trouble.reason and trouble.hint


def test_what_ended_a_capture_counts() -> None:
    try:
        try:
            raise torch.OutOfMemoryError(CUDA_OOM)
        finally:
            raise RuntimeError(
                "CUDA error: operation failed due to a previous error during capture"
            )
    except RuntimeError as error:
        trouble = trouble_of(error)
    assert trouble is not None and trouble.kind == "memory"
    assert trouble.asked_bytes == int(2.5 * 2**30)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA error: operation not permitted when stream is capturing"), "failed"),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), None),
        (ValueError("an illegal memory access of another kind"), None),
        (AssertionError("a row without a page"), None),
    ],
)
def test_other_errors(error: Exception, kind: str | None) -> None:
    trouble = trouble_of(error)
    assert (None if trouble is None else trouble.kind) == kind


def test_frames_let_go_of_tensors() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def inner() -> None:
        tensor = torch.zeros(3)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def outer() -> None:
        tensor = torch.zeros(4)
        held.append(weakref.ref(tensor))
        try:
            inner()
        except RuntimeError as error:
            raise RuntimeError("CUDA error: in between") from error

    kept: BaseException | None = None
    try:
        outer()
    except RuntimeError as error:
        forget_frames(error)
        kept = error
    assert kept is not None and len(held) == 2
    assert [ref() for ref in held] == [None, None]
