"""One load under way: its request, its end, and how long each phase took.

Owned by the load's thread; others only mark it cancelled.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from quantchat.events import Event, LoadPhase, LoadProgress
from quantchat.requests import LoadRequest

PROGRESS_INTERVAL_S = 0.05


@dataclass(slots=True, eq=False)
class LoadJob:
    """A load from the request to Loaded or LoadFailed."""

    load_id: int
    request: LoadRequest
    emit: Callable[[Event], None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    emptied: bool = False
    """The slot's old model had to go first, to make room."""
    _phase: LoadPhase | None = None
    _phase_began_s: float = 0.0
    _told_s: float = 0.0
    _took_s: dict[LoadPhase, float] = field(default_factory=dict)

    def report(self, phase: LoadPhase, done: int, total: int, detail: str) -> None:
        """Tell how far a phase is, a few times a second; a new phase ends the one before."""
        now_s = time.perf_counter()
        fresh = phase != self._phase
        if fresh:
            self._end_phase(now_s)
            self._phase, self._phase_began_s = phase, now_s
        elif done != total and now_s - self._told_s < PROGRESS_INTERVAL_S:
            return
        self._told_s = now_s
        self.emit(
            LoadProgress(
                slot=self.request.slot,
                load_id=self.load_id,
                phase=phase,
                done=done,
                total=total,
                detail=detail,
                time_s=now_s,
            )
        )

    def phases(self) -> tuple[tuple[LoadPhase, float], ...]:
        """Seconds of each phase in the order they began; ends the last one."""
        self._end_phase(time.perf_counter())
        self._phase = None
        return tuple(self._took_s.items())

    def _end_phase(self, now_s: float) -> None:
        if self._phase is not None:
            took_s = self._took_s.get(self._phase, 0.0)
            self._took_s[self._phase] = took_s + now_s - self._phase_began_s
