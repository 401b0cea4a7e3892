"""`quantchat pull NAME`: download a model with a bar, speed and time left.

Progress goes to stderr; stdout gets the path of the finished model. Ctrl+C leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from quantchat.errors import Cancelled

if TYPE_CHECKING:
    from rich.progress import Progress

    from quantchat.hub.local import LocalModel
    from quantchat.hub.progress import FetchProgress

_PLAIN_EVERY_S = 5.0


@click.command()
@click.argument("name")
def command(name: str) -> None:
    """Download a model: an alias of `quantchat models`, or owner/name[:file.gguf] of the hub."""
    from quantchat.hub.local import find

    model = find(name)
    if model is None:
        model = _pull(name)
        click.echo(f"{name} is ready ({model.size_bytes / 1e6:.0f} MB)", err=True)
    else:
        click.echo(f"{name} is on disk already ({model.size_bytes / 1e6:.0f} MB)", err=True)
    click.echo(str(model.path))


def _pull(name: str) -> LocalModel:
    """Fetch in a second thread, so that a signal never cuts a write in two."""
    from quantchat.hub.fetch import fetch

    cancel, ended = threading.Event(), threading.Event()
    done: list[LocalModel] = []
    failed: list[BaseException] = []

    with _drawing() as draw:

        def work() -> None:
            try:
                done.append(fetch(name, on_progress=draw, cancel=cancel))
            # Handed over to the main thread, which raises it.
            except BaseException as error:
                failed.append(error)
            finally:
                ended.set()

        thread = threading.Thread(target=work, name="quantchat-fetch", daemon=True)
        with _terminate_as_interrupt():
            try:
                thread.start()
                # An interrupted Thread.join takes the thread for ended (before Python 3.13).
                while not ended.wait(0.2):
                    pass
            except KeyboardInterrupt:
                cancel.set()
                ended.wait()
                raise click.Abort from None
    if failed:
        if isinstance(failed[0], Cancelled):
            raise click.Abort
        raise failed[0]
    return done[0]


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM clean up as Ctrl+C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _drawing() -> Iterator[Callable[[FetchProgress], None]]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(
        TextColumn("{task.fields[step]}"),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[figures]}"),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        yield _Bar(progress)


class _Lines:
    """A line when something changes, and every few seconds."""

    def __init__(self) -> None:
        self._step = ("", "")
        self._shown_s = 0.0

    def __call__(self, progress: FetchProgress) -> None:
        if progress.failed:
            click.echo(f"{progress.source}: {progress.detail}", err=True)
            return
        step = (progress.source, progress.detail)
        if step != self._step:
            self._step = step
            click.echo(f"{progress.source}: {progress.detail}", err=True)
        elif progress.done_bytes and time.monotonic() - self._shown_s > _PLAIN_EVERY_S:
            click.echo(f"  {figures(progress)}", err=True)
        else:
            return
        self._shown_s = time.monotonic()


class _Bar:
    """One bar that is redrawn; a failed source leaves a line."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, step="", figures="")

    def __call__(self, progress: FetchProgress) -> None:
        if progress.failed:
            self._progress.console.print(
                f"{progress.source}: {progress.detail}", markup=False, highlight=False
            )
            return
        self._progress.update(
            self._task,
            completed=progress.done_bytes,
            total=progress.total_bytes or None,
            step=progress.detail,
            figures=figures(progress),
        )


def figures(progress: FetchProgress) -> str:
    """Bytes, speed and time left in words; says so when nothing comes."""
    done = f"{progress.done_bytes / 1e6:.1f}"
    text = (
        f"{done} of {progress.total_bytes / 1e6:.1f} MB" if progress.total_bytes else f"{done} MB"
    )
    if progress.stalled:
        return f"{text}, stalled"
    if progress.bytes_per_s > 0:
        text += f", {progress.bytes_per_s / 1e6:.1f} MB/s"
    if progress.remaining_s is not None:
        minutes, seconds = divmod(round(progress.remaining_s), 60)
        text += f", {minutes}:{seconds:02d} left"
    return text
