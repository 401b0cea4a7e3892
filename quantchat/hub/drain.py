"""Works the list of wanted downloads off, one model after another.

Owns the order and what follows from a failure: the next one's turn. The list is `downloads`'.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from quantchat.errors import Cancelled, QuantchatError
from quantchat.hub import downloads
from quantchat.hub.fetch import fetch
from quantchat.hub.local import LocalModel
from quantchat.hub.progress import FetchProgress


class Watcher(Protocol):
    """Told of each download, in the thread of `drain`."""

    def began(self, name: str) -> None:
        """Its turn has come."""

    def moved(self, progress: FetchProgress) -> None:
        """At most ten times a second."""

    def came(self, name: str, model: LocalModel) -> None:
        """It is on disk."""

    def failed(self, name: str, error: QuantchatError) -> None:
        """It is not, and stays on the list."""


def drain(
    watcher: Watcher,
    *,
    cancel: threading.Event,
    takes: Callable[[downloads.Wanted], bool] = lambda job: job.state in ("waiting", "interrupted"),
    waits: bool = True,
    leaving: threading.Event | None = None,
) -> None:
    """Fetch every listed download that `takes` picks, also those added meanwhile.

    Each is tried once. What another process is at is waited for, or left to it without `waits`.
    Raises Cancelled within a second of `cancel`; what was at work counts as stopped, or goes on
    with the next start where `leaving` is set.
    """
    tried: set[str] = set()
    while True:
        turn = next(
            (job.name for job in downloads.wanted() if job.name not in tried and takes(job)),
            None,
        )
        if turn is None:
            return
        tried.add(turn)
        watcher.began(turn)
        try:
            model = fetch(
                turn, on_progress=watcher.moved, cancel=cancel, waits=waits, leaving=leaving
            )
        except downloads.Elsewhere:
            continue
        except QuantchatError as error:
            if cancel.is_set():
                raise Cancelled("the download was stopped") from error
            downloads.failed(turn, error)
            watcher.failed(turn, error)
        else:
            watcher.came(turn, model)
