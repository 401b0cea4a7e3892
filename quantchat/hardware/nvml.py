"""Cards as the NVIDIA driver reports them, through NVML: no torch, no CUDA context.

Owns reading and the meaning of CUDA_VISIBLE_DEVICES; draws no conclusion. Numbers follow the PCI
order; CUDA's own default order differs where the cards do, and a note says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from quantchat.hardware.facts import GpuFacts

CORES_PER_SM = {70: 64, 72: 64, 75: 64, 80: 64}
"""CUDA cores in a multiprocessor; 128 in every version that is not listed."""


def read_gpus(
    nvml: ModuleType | Any, environ: Mapping[str, str], *, ram_total_bytes: int, ram_free_bytes: int
) -> tuple[tuple[GpuFacts, ...], tuple[str, ...]]:
    """Visible cards and notes. `nvml` is pynvml or its like; never raises for what NVML says.

    The memory of the machine stands in for cards that share it and report none (GB10).
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return (), (f"no NVIDIA driver answers ({error})",)
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        count = int(nvml.nvmlDeviceGetCount())
        handles = {index: nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)}
        uuids = {index: _text(nvml.nvmlDeviceGetUUID(handle)) for index, handle in handles.items()}
        visible, notes = visible_cards(environ.get("CUDA_VISIBLE_DEVICES"), uuids)
        gpus: list[GpuFacts] = []
        for ordinal, index in enumerate(visible):
            handle = handles[index]
            name = _text(nvml.nvmlDeviceGetName(handle))
            major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
            sm = int(major) * 10 + int(minor)
            if _has_slices(nvml, handle):
                notes.append(f"{name}: split by MIG, the figures are those of the whole card")
            try:
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                total_bytes, free_bytes = int(memory.total), int(memory.free)
            except nvml.NVMLError:
                notes.append(f"{name}: reports no memory of its own, taking the machine's")
                total_bytes, free_bytes = ram_total_bytes, ram_free_bytes
            gpus.append(
                GpuFacts(
                    index=ordinal,
                    name=name,
                    sm=sm,
                    sm_count=_sm_count(nvml, handle, sm),
                    total_bytes=total_bytes,
                    free_bytes=free_bytes,
                    driver=driver,
                    uuid=uuids[index],
                )
            )
        if len({gpu.name for gpu in gpus}) > 1 and (
            environ.get("CUDA_DEVICE_ORDER", "FASTEST_FIRST") != "PCI_BUS_ID"
        ):
            notes.append(
                "the cards differ: set CUDA_DEVICE_ORDER=PCI_BUS_ID so that CUDA numbers them "
                "as they stand here"
            )
        return tuple(gpus), tuple(notes)
    except nvml.NVMLError as error:
        return (), (f"the NVIDIA driver gave up ({error})",)
    finally:
        nvml.nvmlShutdown()


def card_handle(nvml: ModuleType | Any, environ: Mapping[str, str], gpu_index: int) -> Any | None:
    """NVML's handle of a visible card, with NVML left open; None without driver, of slices."""
    try:
        nvml.nvmlInit()
        handles = [
            nvml.nvmlDeviceGetHandleByIndex(index)
            for index in range(int(nvml.nvmlDeviceGetCount()))
        ]
        uuids = {at: _text(nvml.nvmlDeviceGetUUID(handle)) for at, handle in enumerate(handles)}
        visible, _ = visible_cards(environ.get("CUDA_VISIBLE_DEVICES"), uuids)
        if gpu_index >= len(visible):
            return None
        handle = handles[visible[gpu_index]]
        return None if _has_slices(nvml, handle) else handle
    except nvml.NVMLError:
        return None


def visible_cards(setting: str | None, uuids: Mapping[int, str]) -> tuple[list[int], list[str]]:
    """Driver indices in the order CUDA_VISIBLE_DEVICES gives them, with notes.

    As in CUDA: unset shows all, an entry that names no card ends the list, an UUID may be cut short.
    """
    if setting is None:
        return sorted(uuids), []
    chosen: list[int] = []
    entries = [entry.strip() for entry in setting.split(",")] if setting.strip() else []
    for entry in entries:
        if entry.isdecimal():
            found = [int(entry)] if int(entry) in uuids else []
        elif entry.startswith("GPU-"):
            found = [index for index, uuid in uuids.items() if uuid.startswith(entry)]
        else:
            found = []
        if len(found) != 1 or found[0] in chosen:
            return chosen, [
                f"CUDA_VISIBLE_DEVICES={setting!r}: {entry!r} names no card of its own, "
                "what follows is hidden"
            ]
        chosen.append(found[0])
    hidden = len(uuids) - len(chosen)
    return chosen, [f"CUDA_VISIBLE_DEVICES hides {hidden} of {len(uuids)} cards"] if hidden else []


def _has_slices(nvml: ModuleType | Any, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError:
        return False


def _sm_count(nvml: ModuleType | Any, handle: Any, sm: int) -> int:
    try:
        return int(nvml.nvmlDeviceGetNumGpuCores(handle)) // CORES_PER_SM.get(sm, 128)
    except nvml.NVMLError:
        return 0


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
