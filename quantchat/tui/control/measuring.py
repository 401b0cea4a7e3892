"""Keeps what loads were measured to take, and how fast answers came, for the next verdict.

Owns when a figure is worth keeping, and the thread that writes; the file is the store's.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from quantchat import __version__
from quantchat.events import Done, Loaded, MemoryUse, Unloaded
from quantchat.requests import Slot
from quantchat.store.loads import MeasuredLoad, measured_load, remember_load
from quantchat.tui.messages import Item

LEAST_TOKENS = 32
"""Of an answer whose speed counts."""


class Measuring:
    """Told of everything that the engine says; `run` takes each writing in turn."""

    def __init__(self, run: Callable[[Callable[[], None]], object] | None = None) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="measured")
        self._run = self._pool.submit if run is None else run
        self._rows: dict[Slot, MeasuredLoad] = {}
        """What is loaded, by slot."""
        self._loads = 0

    def take(self, item: Item) -> None:
        """Keep the figures of a load or of an answer; other items cost a look."""
        if isinstance(item, Loaded):
            self._loads += 1
            # A benchmark's scripted model holds nothing.
            if item.info.identity and item.info.weight_bytes:
                self._loaded(item)
        elif isinstance(item, Unloaded):
            self._rows.pop(item.slot, None)
        elif isinstance(item, Done):
            self._answered(item)

    def close(self) -> None:
        """Once everything is written."""
        self._pool.shutdown()

    def _loaded(self, event: Loaded) -> None:
        info, memory = event.info, event.memory
        row = MeasuredLoad(
            identity=info.identity,
            scheme=info.scheme,
            kv=info.kv,
            device=info.device_name,
            context_tokens=info.context_tokens,
            weight_bytes=info.weight_bytes,
            kv_bytes=memory.kv_reserved_bytes,
            kv_bytes_per_token=info.kv_bytes_per_token,
            workspace_bytes=math.nan,
            peak_bytes=math.nan,
            tok_per_s=math.nan,
            speed_tokens=0,
            measured=_now(),
            version=__version__,
        )
        self._rows[event.slot] = row
        beside = _driver_bytes(memory) if info.device == "cuda" else 0
        # Later loads find a process that has held more at once before.
        if beside and self._loads == 1:
            row = dataclasses.replace(row, peak_bytes=float(memory.peak_bytes + beside))
        self._keep(event.slot, row)

    def _answered(self, event: Done) -> None:
        row = self._rows.get(event.slot)
        # Two models share the device, and neither's figures are its own then.
        if row is None or len(self._rows) > 1:
            return
        metrics, memory = event.metrics, event.memory
        fresh = row
        if metrics.completion_tokens >= LEAST_TOKENS and metrics.decode_tok_per_s > 0:
            fresh = dataclasses.replace(
                fresh,
                tok_per_s=metrics.decode_tok_per_s,
                speed_tokens=max(0, metrics.context_tokens - metrics.completion_tokens // 2),
            )
        # Only of the first load on a card is it known that torch holds nothing older.
        if row.has_peak and (beside := _driver_bytes(memory)):
            now = float(memory.workspace_bytes + beside)
            most = max(now, row.workspace_bytes) if row.has_workspace else now
            fresh = dataclasses.replace(fresh, workspace_bytes=most)
        if fresh != row:
            self._keep(event.slot, fresh)

    def _keep(self, slot: Slot, row: MeasuredLoad) -> None:
        self._rows[slot] = row = dataclasses.replace(row, measured=_now())
        self._run(lambda: _remember(row))


def _remember(row: MeasuredLoad) -> None:
    """Write a row; a load without an answer keeps the speed of the one before."""
    before = measured_load(row.identity, row.scheme, row.kv, row.device)
    if before is not None and not row.has_speed and before.has_speed:
        row = dataclasses.replace(row, tok_per_s=before.tok_per_s, speed_tokens=before.speed_tokens)
    if before is not None and before.context_tokens == row.context_tokens:
        if not row.has_workspace:
            row = dataclasses.replace(row, workspace_bytes=before.workspace_bytes)
        if not row.has_peak:
            row = dataclasses.replace(row, peak_bytes=before.peak_bytes)
    remember_load(row)


def _driver_bytes(memory: MemoryUse) -> int:
    """What the card's driver holds for this process beside what torch reserved; 0 where unknown."""
    ours = memory.device_total_bytes - memory.device_free_bytes - memory.others_bytes
    reserved = memory.weight_bytes + memory.kv_reserved_bytes + memory.workspace_bytes
    return max(0, ours - reserved)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
