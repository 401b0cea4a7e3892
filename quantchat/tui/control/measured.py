"""What the engine measured of this session's answers, by turn.

Owns the latest meters and the gaps of a bounded number of answers; what is kept for good belongs to
the store.
"""

from __future__ import annotations

from quantchat.events import NO_GAPS, Done, GapTrace, Stats

TRACES_KEPT = 64


class Measured:
    """The latest meters and whose they are."""

    def __init__(self) -> None:
        self.latest: Stats | Done | None = None
        self.turn_id: int | None = None
        """The turn that `latest` is of."""
        self._traces: dict[int, GapTrace] = {}

    def take(self, turn_id: int, item: Stats | Done) -> None:
        """Meters of a turn."""
        self.latest, self.turn_id = item, turn_id
        self._traces.pop(turn_id, None)
        self._traces[turn_id] = item.metrics.itl_trace
        if len(self._traces) > TRACES_KEPT:
            del self._traces[next(iter(self._traces))]

    def trace(self, turn_id: int) -> GapTrace:
        """All gaps of a turn; none where they are not kept any more."""
        return self._traces.get(turn_id, NO_GAPS)
