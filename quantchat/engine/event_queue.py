"""Events between an engine's threads and its user: in order, never waited for by who puts them."""

from __future__ import annotations

import threading
from collections import deque

from quantchat.events import Event


class EventQueue:
    """Any thread puts, any takes."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._arrived = threading.Condition()

    def put(self, event: Event) -> None:
        """One more; who waits is woken."""
        with self._arrived:
            self._events.append(event)
            self._arrived.notify_all()

    def drain(self) -> list[Event]:
        """All that are there, oldest first."""
        with self._arrived:
            events = list(self._events)
            self._events.clear()
        return events

    def wait(self, timeout_s: float) -> list[Event]:
        """As `drain`, as soon as there are any; none after `timeout_s`."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._events, timeout_s)
        return self.drain()
