"""A transfer in a thread of its own, looked at by the screen when it draws."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from quantchat.errors import Cancelled, QuantchatError
from quantchat.tui.control.library import Library

if TYPE_CHECKING:
    from quantchat.hub.progress import FetchProgress

log = logging.getLogger(__name__)


class FetchJob:
    """One fetch: `progress` while it runs, then `done` with `error` or without."""

    def __init__(self, library: Library, name: str) -> None:
        self.name = name
        self.progress: FetchProgress | None = None
        self.error: QuantchatError | None = None
        self.cancelled = False
        self._library = library
        self._cancel = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"fetch {name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def cancel(self) -> None:
        """Give up at the next chunk."""
        self._cancel.set()

    @property
    def cancelling(self) -> bool:
        """Asked to give up, whether it has or not."""
        return self._cancel.is_set()

    @property
    def done(self) -> bool:
        """Ended, one way or another."""
        return self._done.is_set()

    def _take(self, progress: FetchProgress) -> None:
        self.progress = progress

    def _run(self) -> None:
        try:
            self._library.fetch(self.name, self._take, self._cancel)
        except Cancelled:
            self.cancelled = True
        except QuantchatError as error:
            self.error = error
        except Exception as error:
            log.exception("fetch of %s", self.name)
            self.error = QuantchatError(
                f"{self.name}: {type(error).__name__}: {error}", hint="the log has the details"
            )
        finally:
            self._done.set()
