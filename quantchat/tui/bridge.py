"""Carries events from the engine to the screen in flushes, never one hop per token.

Owns the pace: up to 16 flushes a second beside a card, 8 where decode needs the same cores, fewer
when drawing one takes long, so that the screen does not take the decode thread's time. What came is
kept 16 times a second whatever the pace of drawing: a killed process must not lose more.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence

from textual.app import App
from textual.timer import Timer

from quantchat.engine.api import Engine
from quantchat.events import Done, Event, Failed, Loaded, Scored, Started, Stats, Token
from quantchat.requests import Slot
from quantchat.tui.messages import Item, TokenRun

SHORTEST_S = 1 / 16
SHORTEST_ON_CPU_S = 1 / 8
"""Beside decode on two cores 16 flushes a second cost a quarter of its speed, 8 about a tenth."""
LONGEST_S = 0.3
KEEP_S = 1 / 16
"""Longest that events stay in the engine; with a commit that is below the 100 ms that may be lost."""
DEAR_S = 0.030
"""A flush that takes more CPU time than this makes the next one wait longer."""
SHARE = 0.15
"""Part of the time that drawing may take once flushes are dear."""


def gather(events: Sequence[Event]) -> list[Item]:
    """Events with each request's tokens put together and only its latest meters kept."""
    items: list[Item] = []
    runs: dict[int, list[Token]] = {}
    stats: dict[int, Stats] = {}

    def close(request_id: int) -> None:
        tokens = runs.pop(request_id, [])
        if tokens:
            items.append(
                TokenRun(
                    request_id=request_id,
                    slot=tokens[0].slot,
                    text="".join(token.text for token in tokens),
                    ids=tuple(token.token_id for token in tokens),
                    pieces=tuple(token.text for token in tokens),
                )
            )
        latest = stats.pop(request_id, None)
        if latest is not None:
            items.append(latest)

    for event in events:
        if isinstance(event, Token):
            runs.setdefault(event.request_id, []).append(event)
        elif isinstance(event, Stats):
            stats[event.request_id] = event
        else:
            if isinstance(event, Done | Failed):
                close(event.request_id)
            items.append(event)
    for request_id in [*runs, *stats]:
        close(request_id)
    return items


class Bridge:
    """Drains an engine on the app's event loop and hands items to one receiver."""

    def __init__(
        self,
        app: App[None],
        engine: Engine,
        receive: Callable[[Sequence[Item]], None],
        keep: Callable[[Sequence[Event]], None] = lambda _: None,
    ) -> None:
        self._app = app
        self._engine = engine
        self._receive = receive
        self._keep = keep
        """Told of events before they are drawn, and no later than `KEEP_S` after they came."""
        self._held: list[Event] = []
        self._ticks = 0
        self._timer: Timer | None = None
        self._stopped = False
        self._costs: deque[float] = deque(maxlen=512)
        self._began_s = 0.0
        self._devices: dict[Slot, str] = {}
        self._running: dict[int, Slot] = {}
        """Requests that a model works on, and where."""
        self._on_cpu = False
        self.shortest_s = SHORTEST_S
        self.interval_s = SHORTEST_S
        self.flushes = 0
        """Flushes that carried something."""

    def start(self) -> None:
        """Begin to drain."""
        self._stopped = False
        self._wait()

    def stop(self) -> list[Item]:
        """Cease to drain; what came and was not passed on."""
        self._stopped = True
        if self._timer is not None:
            self._timer.stop()
        events, self._held = [*self._held, *self._engine.drain()], []
        return gather(events)

    def _follow(self, events: Sequence[Event]) -> None:
        """Set the pace for what is computed now, else for what was loaded last."""
        on_cpu = self._on_cpu
        for event in events:
            if isinstance(event, Loaded):
                self._devices[event.slot] = event.info.device
                on_cpu = event.info.device == "cpu"
            elif isinstance(event, Started) or (isinstance(event, Scored) and not event.done):
                self._running[event.request_id] = event.slot
            elif isinstance(event, Done | Failed | Scored):
                self._running.pop(event.request_id, None)
        if self._running:
            on_cpu = any(self._devices.get(slot) == "cpu" for slot in self._running.values())
        if on_cpu != self._on_cpu:
            self._on_cpu = on_cpu
            self.shortest_s = SHORTEST_ON_CPU_S if on_cpu else SHORTEST_S
            self.interval_s = max(self.interval_s, self.shortest_s)

    @property
    def flush_p99_ms(self) -> float:
        """CPU time of a flush with its drawing, 99th percentile of the last 512."""
        costs = sorted(self._costs)
        return costs[int(0.99 * (len(costs) - 1))] * 1e3 if costs else 0.0

    def measure_anew(self) -> None:
        """Forget what flushes have cost so far."""
        self._costs.clear()

    def _flush(self) -> None:
        if self._stopped:
            return
        began_s = time.monotonic()
        try:
            events = self._engine.drain()
            if events:
                self._follow(events)
                self._keep(events)
                self._held += events
            self._ticks += 1
            if self._held and self._ticks >= self._ticks_per_flush:
                events, self._held, self._ticks = self._held, [], 0
                self.flushes += 1
                self._began_s = time.thread_time()
                self._receive(gather(events))
                self._app.call_after_refresh(self._drawn)
        finally:
            # Not left to the callback above: it is lost when its screen is left before it is drawn.
            self._wait(time.monotonic() - began_s)

    @property
    def _ticks_per_flush(self) -> int:
        return max(1, math.ceil(self.interval_s / KEEP_S - 0.01))

    def _wait(self, spent_s: float = 0.0) -> None:
        if self._stopped:
            return
        ticks = self._ticks_per_flush
        tick_s = self.interval_s / ticks
        if ticks > 1:
            # What drawing took does not delay the tick that only keeps.
            tick_s = max(tick_s / 4, tick_s - spent_s)
        self._timer = self._app.set_timer(tick_s, self._flush, name="bridge")

    def _drawn(self) -> None:
        cost_s = time.thread_time() - self._began_s
        self._costs.append(cost_s)
        if cost_s > DEAR_S:
            self.interval_s = min(LONGEST_S, max(self.interval_s, cost_s / SHARE))
        else:
            self.interval_s = max(self.shortest_s, self.interval_s * 0.8)
