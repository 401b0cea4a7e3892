"""The model to begin with on this machine: worked out once, when there is none to answer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantchat.errors import QuantchatError

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The recommendation for this machine."""

    name: str
    """What fetches it."""
    size_bytes: int
    """To be fetched; 0 when not known."""


class Recommended:
    """Asks the library's shelf in a thread; until it answered there is nothing to say."""

    def __init__(self, app: QuantchatApp) -> None:
        self._app = app
        self._asked = False
        self._best: Best | None = None

    def best(self) -> Best | None:
        """None where nothing is known (yet); the first call begins to find out."""
        if not self._asked:
            self._asked = True
            self._app.run_worker(self._ask, thread=True, exit_on_error=False)
        return self._best

    def _ask(self) -> None:
        app = self._app
        try:
            pick = next((each for each in app.library.shelf() if each.best), None)
            row = app.library.find(pick.name) if pick is not None else None
        except QuantchatError as error:
            log.warning("nothing is recommended: %s", error)
            return
        if row is not None:
            app.call_later(self._take, Best(name=row.name, size_bytes=row.size_bytes))

    def _take(self, best: Best) -> None:
        self._best = best
        self._app.state_changed()
