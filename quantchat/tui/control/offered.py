"""Reads what the schemes would be here, off the event loop; only the latest question counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from quantchat.errors import QuantchatError
from quantchat.tui.control.schemes import Held, SchemeRow

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

Problem: TypeAlias = tuple[str, str] | None
"""Message and hint."""
Take: TypeAlias = Callable[[list[SchemeRow], Problem], None]


class Offered:
    """The rows of the main slot's model for those who ask; `take` is called on the event loop."""

    def __init__(self, app: QuantchatApp) -> None:
        self._app = app
        self._asked = 0

    def read(self, kv: str, take: Take) -> None:
        """Plan every scheme under a KV precision."""
        self._asked += 1
        asked, app = self._asked, self._app
        request = app.preferences.load_request(kv=kv)
        loads = app.loads
        held = None
        if loads.info is not None and loads.memory is not None:
            held = Held.of(loads.info, loads.memory)
        quiet = app.conversation.answering is None and not loads.busy

        def work() -> None:
            problem: Problem = None
            rows: list[SchemeRow] = []
            try:
                rows = app.schemes.rows(request, held, may_measure=quiet)
            except QuantchatError as error:
                problem = (error.message, error.hint)
            app.call_from_thread(hand_over, rows, problem)

        def hand_over(rows: list[SchemeRow], problem: Problem) -> None:
            if asked == self._asked:
                take(rows, problem)

        app.run_worker(work, thread=True, exit_on_error=False)
