"""How fast a device reads its memory: measured here before, or the maker's figure for a card.

Owns the file of what was measured. Measuring needs torch and is the engine's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import uuid
from pathlib import Path
from typing import Any

from quantchat import paths
from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.facts import Facts
from quantchat.hardware.specs import specs_of

SHEET_SHARE = 0.93
"""Of a data sheet's bandwidth that reads reach: 3109 of 3350 GB/s on an H100 SXM (BENCHMARKS.md)."""
FILE_LIMIT_BYTES = 1 << 16
KEEP = 64
HIGHEST_BYTES_PER_S = 1e14

logger = logging.getLogger(__name__)


def read_bytes_per_s(facts: Facts, plan: ExecutionPlan) -> float | None:
    """What the plan's device reads; None where nobody has said and nothing was measured."""
    measured = _read(_file()).get(device_key(plan))
    if measured is not None or plan.device == "cpu":
        return measured
    known = specs_of(next(gpu for gpu in facts.gpus if gpu.index == plan.gpu_index))
    return None if known is None else known.gb_per_s * 1e9 * SHEET_SHARE


def keep_measured(plan: ExecutionPlan, bytes_per_s: float) -> None:
    """Remember what the plan's device reads."""
    keep(device_key(plan), bytes_per_s)


def keep(key: str, bytes_per_s: float) -> None:
    """Remember what a device reads: the best reading, others shared it with somebody.

    Trouble is logged, never raised.
    """
    path = _file()
    # A name of its own: another instance may be writing at the same moment.
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        table = _read(path)
        table[key] = max(bytes_per_s, table.pop(key, 0.0))
        fresh.write_text(json.dumps(dict(list(table.items())[-KEEP:]), indent=0))
        os.replace(fresh, path)
    except OSError as error:
        logger.warning("measured bandwidth is not kept: %s", error)
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


def device_key(plan: ExecutionPlan) -> str:
    """A device as the file names it."""
    return plan.device_name if plan.device != "cpu" else cpu_key(plan.device_name, plan.threads)


def cpu_key(name: str, threads: int) -> str:
    """A processor as the file names it: with its threads, on which reading depends."""
    return f"{name}, {threads} threads"


def _file() -> Path:
    return paths.cache_dir() / "bandwidth.json"


def _read(path: Path) -> dict[str, float]:
    """The figures that can be used; empty where there is no such file."""
    table: Any = None
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if path.stat().st_size <= FILE_LIMIT_BYTES:
            table = json.loads(path.read_bytes())
    if not isinstance(table, dict):
        return {}
    return {
        name: float(value)
        for name, value in table.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 < value < HIGHEST_BYTES_PER_S
    }
