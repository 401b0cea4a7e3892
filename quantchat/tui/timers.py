"""Timers that tick once and are not lost.

textual 8.2.8 leaves out ticks that are late already when a timer begins to wait. Of one that ticks
once that is the only tick: a process that is held up at this point for as long as the timer takes
would never draw, expire or search what waits for it.
"""

from __future__ import annotations

from typing import Any

from textual import message_pump
from textual.timer import Timer


class SureTimer(Timer):
    """Late rather than never, where it ticks a number of times."""

    def __init__(self, *args: Any, repeat: int | None = None, **kwargs: Any) -> None:
        if repeat is not None:
            kwargs["skip"] = False
        super().__init__(*args, repeat=repeat, **kwargs)


def make_sure() -> None:
    """Let all widgets' timers be sure ones, Textual's own included; may be called again."""
    message_pump.Timer = SureTimer  # type: ignore[attr-defined]
