"""What a loaded model, this process and the device hold: measured, asked of the objects."""

from __future__ import annotations

import contextlib
import gc
import os
import sys

import psutil
import torch

from quantchat.engine.model import LoadedModel
from quantchat.events import MemoryUse


def memory_use(model: LoadedModel) -> MemoryUse:
    """On a card, workspace is what torch has reserved beyond weights and KV; on the CPU, copies."""
    decoder, pool, pages = model.decoder, model.pool, model.pages
    resident = psutil.Process(os.getpid()).memory_info()
    process = resident.rss
    kv_used = pages.used * pool.page_bytes
    if decoder.ops.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(decoder.ops.device)
        reserved = torch.cuda.memory_reserved(decoder.ops.device)
        return MemoryUse(
            weight_bytes=decoder.weight_bytes,
            kv_used_bytes=kv_used,
            kv_reserved_bytes=pool.nbytes,
            workspace_bytes=max(0, reserved - decoder.weight_bytes - pool.nbytes),
            peak_bytes=torch.cuda.max_memory_reserved(decoder.ops.device),
            process_bytes=process,
            device_total_bytes=total,
            device_free_bytes=free,
            others_bytes=max(0, total - free - _card_bytes(model, reserved)),
        )
    machine = psutil.virtual_memory()
    # Pages of files are resident here and available all the same.
    kept = process - resident.shared if sys.platform == "linux" else process
    return MemoryUse(
        weight_bytes=decoder.weight_bytes,
        kv_used_bytes=kv_used,
        kv_reserved_bytes=pool.nbytes,
        workspace_bytes=decoder.copy_bytes,
        peak_bytes=_peak_process_bytes(process),
        process_bytes=process,
        device_total_bytes=machine.total,
        device_free_bytes=machine.available,
        others_bytes=max(0, machine.total - machine.available - kept),
    )


def _card_bytes(model: LoadedModel, reserved_bytes: int) -> int:
    """What this process holds of its card: as the driver has it, else what torch has reserved."""
    told = None if model.counters is None else model.counters.process_bytes()
    return max(reserved_bytes, told or 0)


def _peak_process_bytes(now_bytes: int) -> int:
    """Highest resident size of this process so far, where the system tells."""
    if sys.platform == "win32":
        return now_bytes
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_bytes(device: torch.device) -> int:
    """Memory that an allocation can get now, torch's own reserve included; 0 on a lost card."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    with contextlib.suppress(RuntimeError):
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return 0


def held_bytes(model: LoadedModel) -> int:
    """What giving up the model would free on its device."""
    return model.decoder.weight_bytes + model.decoder.copy_bytes + model.pool.nbytes


def give_back(*, workspaces: bool, collect: bool = True) -> None:
    """Return what nothing refers to any more to the system.

    `workspaces`: those of the matmul library too, tens of MiB. Captured graphs know them by
    address, so this is for when no graph is left. `collect`: look for cycles of references, a
    tenth of a second in a large process.
    """
    if collect:
        gc.collect()
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return
    # A lost card refuses; its memory is gone with the process.
    with contextlib.suppress(RuntimeError):
        if workspaces:
            torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


def leave_capture() -> None:
    """Put this thread back on the card's default stream, which a capture that failed may not do."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return
    with contextlib.suppress(RuntimeError):
        torch.cuda.set_stream(torch.cuda.default_stream())


def device_answers(device: torch.device) -> bool:
    """Whether the device still computes; a card whose context is dead does not."""
    if device.type != "cuda":
        return True
    try:
        torch.ones(1, device=device).add_(1).item()
    except RuntimeError:
        return False
    return True
