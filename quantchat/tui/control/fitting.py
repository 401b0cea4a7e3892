"""Works verdicts out a few at a time, the chosen model first; what is not wanted is given up.

Owns the order of work and what is known so far, for as long as a screen is open.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from textual.widget import Widget

from quantchat.errors import Cancelled, QuantchatError
from quantchat.tui.control.fits import FitBook, Fits
from quantchat.tui.control.schemes import Held

log = logging.getLogger(__name__)

AT_ONCE = 2
AGAIN_S = 10.0
"""After which a model that nothing could be known of is asked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoFits:
    """Why there is no verdict, in words."""

    message: str
    hint: str = ""


class Fitting:
    """The verdicts of a screen; `changed` is called on the event loop."""

    def __init__(
        self,
        host: Widget,
        book: FitBook,
        held: Callable[[], Held | None],
        changed: Callable[[], None],
    ) -> None:
        self._host = host
        self._book = book
        self._held = held
        self._changed = changed
        self._known: dict[str, Fits | NoFits] = {}
        self._failed_s: dict[str, float] = {}
        """When nothing could be known of a model: it is asked for again some time later."""
        self._wanted: list[str] = []
        self._running: dict[str, threading.Event] = {}

    def of(self, name: str) -> Fits | NoFits | None:
        """What is known of a model; None for nothing yet."""
        return self._known.get(name)

    def want(self, names: Iterable[str]) -> None:
        """The models to look at, the most wanted first; others are given up."""
        late_s = time.monotonic() - AGAIN_S
        self._wanted = [
            name
            for name in dict.fromkeys(names)
            if name not in self._known or self._failed_s.get(name, late_s) < late_s
        ]
        # A running one that is still wanted, but not next, makes room for the first.
        keep = set(self._wanted[:AT_ONCE])
        for name, cancel in self._running.items():
            if name not in keep:
                cancel.set()
        self._start()

    def forget(self) -> None:
        """What was worked out holds no more."""
        self._known.clear()
        self._failed_s.clear()

    def close(self) -> None:
        """Give up everything."""
        self._wanted = []
        for cancel in self._running.values():
            cancel.set()

    def _start(self) -> None:
        for name in self._wanted:
            if len(self._running) >= AT_ONCE:
                return
            if name not in self._running:
                self._run(name)

    def _run(self, name: str) -> None:
        cancel = threading.Event()
        self._running[name] = cancel
        held = self._held()

        def work() -> None:
            found: Fits | NoFits | None = None
            try:
                found = self._book.fits(name, held, cancel)
            except Cancelled:
                if not cancel.is_set():
                    found = NoFits(message="it was given up")
            except QuantchatError as error:
                found = NoFits(message=error.message, hint=error.hint)
            except Exception as error:
                log.exception("fits of %s", name)
                found = NoFits(
                    message=f"not known: {type(error).__name__}", hint="the log has the details"
                )
            self._host.call_later(take, found)

        def take(found: Fits | NoFits | None) -> None:
            del self._running[name]
            if not self._host.is_attached:
                return
            if found is not None:
                self._known[name] = found
                self._wanted = [each for each in self._wanted if each != name]
                self._failed_s.pop(name, None)
            if isinstance(found, NoFits):
                self._failed_s[name] = time.monotonic()
            self._start()
            if found is not None:
                self._changed()

        self._host.run_worker(work, thread=True, exit_on_error=False)
