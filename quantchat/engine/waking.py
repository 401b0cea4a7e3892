"""A card before a load: started beside imports and reading, and what it still holds."""

from __future__ import annotations

import contextlib
import threading

import torch


def wake(gpu_index: int) -> None:
    """Start the card and the matmul library in a thread of their own; trouble shows later."""
    threading.Thread(target=_multiply, args=(gpu_index,), name="wake-card", daemon=True).start()


def keeps_memory(gpu_index: int) -> bool:
    """Whether an earlier model or trial has left torch with memory of the card."""
    started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return started and torch.cuda.memory_reserved(gpu_index) > 0


def _multiply(gpu_index: int) -> None:
    with contextlib.suppress(RuntimeError):
        square = torch.zeros((16, 16), dtype=torch.float16, device=torch.device("cuda", gpu_index))
        square @ square
