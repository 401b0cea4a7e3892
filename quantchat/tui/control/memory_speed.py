"""Measures in a quiet moment how fast the processor reads its memory, where that is not known.

Owns when; measuring is the engine's, keeping the figure `hardware.bandwidth`'s. Once in a session.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from quantchat.events import ModelInfo
from quantchat.tui.control.readings import current

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

QUIET_S = 3.0
"""Without an answer or a load; the measurement itself takes a fifth of a second."""

log = logging.getLogger(__name__)


class MemorySpeed:
    """Asked several times a second; its question costs nothing."""

    def __init__(self, app: QuantchatApp) -> None:
        self._app = app
        self._tried = False
        self._busy_s = time.monotonic()

    def poll(self) -> None:
        """Measure if nothing else has run for a while and the figure is missing."""
        app = self._app
        info = app.loads.info
        if self._tried or info is None or info.device != "cpu" or not self._wanted(info):
            return
        if app.conversation.busy or app.loads.busy or app.comparison is not None:
            self._busy_s = time.monotonic()
        elif time.monotonic() - self._busy_s >= QUIET_S:
            self._tried = True
            app.run_worker(lambda: self._measure(info), thread=True, exit_on_error=False)

    def _wanted(self, info: ModelInfo) -> bool:
        """Whether the figure is missing, or was taken while others were busy: decoding was faster."""
        best = info.read_bytes_per_s
        if best is None:
            return True
        reading = current(self._app.conversation, self._app.loads)
        achieved = reading.achieved_bytes_per_s
        return reading.live and achieved is not None and achieved > best

    def _measure(self, info: ModelInfo) -> None:
        from quantchat.engine.bandwidth import cpu_read_bytes_per_s
        from quantchat.hardware.bandwidth import cpu_key, keep
        from quantchat.hardware.probe import probe

        threads = max(1, probe().cpu.physical_cores)
        rate = cpu_read_bytes_per_s(threads)
        keep(cpu_key(info.device_name, threads), rate)
        log.info("memory reads %.1f GB/s with %d threads", rate / 1e9, threads)
        self._app.call_from_thread(self._known, info, rate)

    def _known(self, info: ModelInfo, rate: float) -> None:
        loads = self._app.loads
        if loads.info is info:
            best = max(rate, info.read_bytes_per_s or 0.0)
            loads.info = replace(info, read_bytes_per_s=best)
            self._app.state_changed()
