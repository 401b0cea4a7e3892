"""What the measuring commands share: progress on stderr, a first Ctrl-C that stops.

Progress is a bar where stderr is a terminal, else a line whenever the work changes.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from quantchat.cli.answer_options import changed_settings

if TYPE_CHECKING:
    from quantchat.calibration.settings import CalibrationSettings


def model_and_calibration(model: str | None, text: Path | None) -> tuple[str, CalibrationSettings]:
    """The model's name and what calibrated schemes look at, the settings' where none is given.

    Raises UsageError for a text that cannot be read.
    """
    from quantchat import paths
    from quantchat.calibration.settings import CalibrationSettings

    settings = changed_settings({})
    known = paths.expanded(settings.calibration_file) if settings.calibration_file else None
    found = CalibrationSettings(file=text or known)
    found.key()
    return model or settings.model, found


@dataclass(slots=True)
class Progress:
    """Where work stands, on stderr."""

    draw: Callable[[str, int, int], None]
    say: Callable[[str], None]
    """A line that stays."""
    stop: threading.Event = field(default_factory=threading.Event)

    def cancelled(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self.stop.is_set()


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Progress until the block ends; the first Ctrl-C asks the work to stop, the second ends it.

    SIGTERM ends it at once, and removes what was begun on disk.
    """
    with drawn() as shown, _interruptible(shown):
        yield shown


@contextlib.contextmanager
def drawn() -> Iterator[Progress]:
    """Progress until the block ends; Ctrl-C ends it as it ends everything."""
    if not sys.stderr.isatty():
        yield Progress(WorkLines(), lambda text: click.echo(text, err=True))
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    with Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.completed:.0f} of {task.total:.0f}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bars:
        task = bars.add_task("", total=1)

        def draw(label: str, done: int, total: int) -> None:
            bars.update(task, description=label, completed=done, total=total or 1)

        def say(text: str) -> None:
            console.print(text, markup=False, highlight=False)

        yield Progress(draw, say)


@contextlib.contextmanager
def _interruptible(shown: Progress) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, ended = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        shown.stop.set()
        shown.say("stopping; what is finished will be shown (Ctrl-C again ends at once)")
        signal.signal(signal.SIGINT, before)

    def end(number: int, frame: FrameType | None) -> None:
        # What was begun on disk is removed on the way out.
        sys.exit(128 + number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, ended)


class WorkLines:
    """One line on stderr whenever the work changes."""

    def __init__(self) -> None:
        self._label = ""

    def __call__(self, label: str, done: int, total: int) -> None:
        if label != self._label:
            self._label = label
            click.echo(label, err=True)
