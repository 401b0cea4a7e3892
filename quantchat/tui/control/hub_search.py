"""Asks the hub while somebody types: a pause first, one question at a time, the former given up.

Owns the state of the question and what was found; blocking work is done in threads, and a host
that closed gets nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

from textual.timer import Timer
from textual.widget import Widget

from quantchat.errors import Cancelled, QuantchatError
from quantchat.tui.control.hub_finds import HubFinds, RepoEntry
from quantchat.tui.control.library import Library

if TYPE_CHECKING:
    from quantchat.hub.search import FoundRepo, Sort

log = logging.getLogger(__name__)

PAUSE_S = 0.25
"""After a key, before the hub is asked."""
State: TypeAlias = Literal["idle", "searching", "found", "offline", "failed"]
SORTS: tuple[Sort, ...] = ("downloads", "updated", "likes", "trending")


class HubSearch:
    """The search of a screen; `changed` is called on the event loop."""

    def __init__(self, host: Widget, library: Library, changed: Callable[[], None]) -> None:
        self._host = host
        self._library = library
        self._changed = changed
        self._finds = HubFinds()
        self._rows: list[RepoEntry] | None = None
        self._pause: Timer | None = None
        self._cancel = threading.Event()
        self._asked = 0
        self.query = ""
        self.sort: Sort = SORTS[0]
        self.state: State = "idle"
        self.message = ""
        self.hint = ""

    @property
    def rows(self) -> list[RepoEntry]:
        """What is known for the question."""
        if self._rows is None:
            self._rows = self._finds.rows(self.query, self.sort)
        return self._rows

    def ask(self, query: str, sort: Sort, *, everything: bool = False) -> None:
        """Another question; nothing typed is one only with `everything`."""
        query = " ".join(query.split())
        self.give_up()
        self.query, self.sort, self._rows = query, sort, None
        if not query and not everything:
            self.state = "idle"
            return
        self.state = "searching"
        self._pause = self._host.set_timer(PAUSE_S, self._search)

    def again(self) -> None:
        """The same question once more, at once."""
        if self.state != "idle":
            self.give_up()
            self.state = "searching"
            self._search()
            self._changed()

    def give_up(self) -> None:
        """Let go of the question that is under way."""
        self._asked += 1
        self._cancel.set()
        if self._pause is not None:
            self._pause.stop()
            self._pause = None

    def _search(self) -> None:
        self._cancel = cancel = threading.Event()
        asked, query, sort = self._asked, self.query, self.sort

        def work() -> None:
            rows: list[FoundRepo] = []
            problem: QuantchatError | None = None
            try:
                rows = self._library.search(query, sort, cancel)
            except Cancelled:
                return
            except QuantchatError as error:
                problem = error
            except Exception as error:
                log.exception("search of the hub")
                problem = QuantchatError(
                    f"the search failed: {type(error).__name__}", hint="the log has the details"
                )
            self._host.call_later(take, rows, problem)

        def take(rows: list[FoundRepo], problem: QuantchatError | None) -> None:
            if asked == self._asked and self._host.is_attached:
                self._answered(query, sort, rows, problem)

        self._host.run_worker(work, thread=True, exit_on_error=False)

    def _answered(
        self, query: str, sort: Sort, rows: list[FoundRepo], problem: QuantchatError | None
    ) -> None:
        from quantchat.hub.http import SourceError

        if problem is None:
            self._finds.take(query, sort, rows)
            self._rows = None
            self.state, self.message, self.hint = "found", "", ""
        else:
            away = isinstance(problem, SourceError) and problem.fault == "unreachable"
            self.state = "offline" if away else "failed"
            self.message, self.hint = problem.message, problem.hint
        self._changed()
