"""Ends the app when the system asks: the terminal is put right first, and the answer kept.

A terminal that went away asks otherwise, with SIGHUP: there is nothing to put right, and the process
ends at once.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.app import App

SIGNALLED = 128
"""Exit code of a process that a signal ended, less the signal's number."""


def end_when_told(app: App[None]) -> None:
    """Quit on SIGTERM; a second one ends the process as it stands."""

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            sys.exit(SIGNALLED + number)
        loop.call_soon_threadsafe(partial(app.exit, return_code=SIGNALLED + number))

    signal.signal(signal.SIGTERM, end)
