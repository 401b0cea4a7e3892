"""What a loaded model, this process and the device hold: measured, asked of the objects."""

from __future__ import annotations

import os
import sys

import psutil
import torch

from quantchat.engine.model import LoadedModel
from quantchat.events import MemoryUse


def memory_use(model: LoadedModel) -> MemoryUse:
    """On a card, workspace is what torch has reserved beyond weights and KV; on the CPU, copies."""
    decoder, pool, pages = model.decoder, model.pool, model.pages
    process = psutil.Process(os.getpid()).memory_info().rss
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
        )
    machine = psutil.virtual_memory()
    return MemoryUse(
        weight_bytes=decoder.weight_bytes,
        kv_used_bytes=kv_used,
        kv_reserved_bytes=pool.nbytes,
        workspace_bytes=decoder.copy_bytes,
        peak_bytes=_peak_process_bytes(process),
        process_bytes=process,
        device_total_bytes=machine.total,
        device_free_bytes=machine.available,
    )


def _peak_process_bytes(now_bytes: int) -> int:
    """Highest resident size of this process so far, where the system tells."""
    if sys.platform == "win32":
        return now_bytes
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
