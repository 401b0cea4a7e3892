"""Votes of blind rounds, read and kept off the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from quantchat.errors import QuantchatError
from quantchat.store.votes import Choice, Contender, Tally, Votes

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp


class Ballot:
    """How the votes between two stand; `changed` is called on the event loop."""

    def __init__(self, app: QuantchatApp, changed: Callable[[], None]) -> None:
        self.votes = Votes(app.chats.database)
        self.tally: Tally | None = None
        """None until it is read."""
        self._app = app
        self._changed = changed
        self._pair: tuple[Contender, Contender] | None = None

    def count(self, left: Contender, right: Contender) -> None:
        """Read how the two stand, unless that is known."""
        if (left, right) != self._pair:
            self._pair, self.tally = (left, right), None
            self._work(left, right, "", None)

    def cast(self, prompt: str, left: Contender, right: Contender, choice: Choice) -> None:
        """Keep a vote."""
        self._pair = (left, right)
        self._work(left, right, prompt, choice)

    def _work(self, left: Contender, right: Contender, prompt: str, choice: Choice | None) -> None:
        app = self._app

        def work() -> None:
            try:
                if choice is not None:
                    self.votes.add(prompt, left, right, choice)
                tally = self.votes.tally(left, right)
            except QuantchatError as error:
                title = "The vote is not kept" if choice is not None else "Votes were not read"
                app.notify(str(error), title=title, severity="error")
                return
            app.call_from_thread(self._set, (left, right), tally)

        app.run_worker(work, thread=True, exit_on_error=False)

    def _set(self, pair: tuple[Contender, Contender], tally: Tally) -> None:
        if pair == self._pair:
            self.tally = tally
            self._changed()
