"""Counters of one card while it works, as the NVIDIA driver keeps them: energy and this process.

Owns reading them through NVML, which stays open as long as the process. No torch, no estimate:
None is what the driver does not tell.
"""

from __future__ import annotations

import functools
import os
import time
from types import ModuleType
from typing import Any

from quantchat.hardware.nvml import card_handle

PROCESS_EVERY_S = 10.0
"""The table of processes may take longer to read than a decode step does, and seldom changes."""


class CardCounters:
    """One card's counters; every failure of the driver reads as None."""

    def __init__(self, nvml: ModuleType | Any, handle: Any, pid: int) -> None:
        self._nvml = nvml
        self._handle = handle
        self._pid = pid
        self._process_bytes: int | None = None
        self._process_due_s = 0.0

    def joules(self) -> float | None:
        """Energy of the whole card since the driver was loaded."""
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except self._nvml.NVMLError:
            return None

    def process_bytes(self) -> int | None:
        """The card's memory that this process holds, CUDA's context included; seconds old."""
        now_s = time.monotonic()
        if now_s >= self._process_due_s:
            self._process_due_s = now_s + PROCESS_EVERY_S
            self._process_bytes = self._read_process_bytes()
        return self._process_bytes

    def _read_process_bytes(self) -> int | None:
        try:
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return None
        found = [each.usedGpuMemory for each in processes if each.pid == self._pid]
        return int(found[0]) if found and found[0] is not None else None


def open_counters(nvml: ModuleType | Any, gpu_index: int) -> CardCounters | None:
    """Counters of a visible card; None where the driver does not answer or the card is in slices."""
    handle = card_handle(nvml, os.environ, gpu_index)
    return None if handle is None else CardCounters(nvml, handle, os.getpid())


@functools.cache
def counters_of(gpu_index: int) -> CardCounters | None:
    """The process's counters of a visible card."""
    try:
        import pynvml
    except ImportError:
        return None
    return open_counters(pynvml, gpu_index)
