"""`quantchat pull [NAME]...`: download models with a bar, speed and time left.

Progress goes to stderr; stdout gets the path of each finished model. What came before Ctrl+C, a
fault or a kill stays for the next pull; without a name everything unfinished goes on.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from quantchat.errors import Cancelled, DownloadError, QuantchatError
from quantchat.sizes import size_words

if TYPE_CHECKING:
    from rich.progress import Progress

    from quantchat.hub.local import LocalModel
    from quantchat.hub.progress import FetchProgress

_PLAIN_EVERY_S = 5.0


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
def command(names: tuple[str, ...]) -> None:
    """Download models: aliases of `quantchat models`, or owner/name[:file.gguf] of the hub.

    Without a name, all downloads that have not ended go on where they stopped.
    """
    from quantchat.hub.downloads import wanted

    if not names and not wanted():
        click.echo("nothing waits to be downloaded; name a model of `quantchat models`", err=True)
        return
    missing = [name for name in dict.fromkeys(names) if not _told(name)]
    if missing or not names:
        _pull(missing)


def _told(name: str) -> bool:
    """Whether the model is on disk already, and said so."""
    from quantchat.hub.local import find

    model = find(name)
    if model is None:
        return False
    click.echo(f"{name} is on disk already ({size_words(model.size_bytes)})", err=True)
    click.echo(str(model.path))
    return True


class _Pull:
    """What became of each download, told as it ends."""

    def __init__(self, draw: Callable[[FetchProgress], None]) -> None:
        self.moved = draw
        self.errors: dict[str, QuantchatError] = {}
        self.ended: list[tuple[str, LocalModel]] = []

    def began(self, name: str) -> None:
        """The progress names the source itself."""

    def came(self, name: str, model: LocalModel) -> None:
        """Kept, to be said when the bar is gone."""
        self.ended.append((name, model))

    def failed(self, name: str, error: QuantchatError) -> None:
        """Kept; the next one has its turn."""
        self.errors[name] = error


def _pull(names: list[str]) -> None:
    """Fetch in a second thread, so that a signal never cuts a write in two."""
    cancel, ended = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    with _drawing() as draw:
        pull = _Pull(draw)

        def work() -> None:
            try:
                _work(names, pull, cancel)
            # Handed over to the main thread, which raises it.
            except BaseException as error:
                failed.append(error)
            finally:
                ended.set()

        thread = threading.Thread(target=work, name="quantchat-fetch", daemon=True)
        with _signals() as asked:
            thread.start()
            while not ended.wait(0.2):
                if asked:
                    cancel.set()
        if asked:
            failed.append(Cancelled("the download was stopped"))
    for name, model in pull.ended:
        click.echo(f"{name} is ready ({size_words(model.size_bytes)})", err=True)
        click.echo(str(model.path))
    if failed:
        if isinstance(failed[0], Cancelled):
            click.echo("stopped; `quantchat pull` goes on with what has come", err=True)
            raise click.Abort
        raise failed[0]
    _say_wanted(pull.errors)
    _raise(list(pull.errors.values()))


def _work(names: list[str], pull: _Pull, cancel: threading.Event) -> None:
    from quantchat.hub.downloads import want
    from quantchat.hub.drain import drain
    from quantchat.hub.local import resolve
    from quantchat.hub.names import entry_for

    keys = []
    for name in names:
        entry = entry_for(name.strip())
        if entry is None:
            # No download could bring it; says why.
            resolve(name)
        else:
            keys.append(entry.alias)
    want(keys)
    # What another process is at is waited for only where it was asked for.
    drain(
        pull,
        cancel=cancel,
        takes=lambda job: job.name in keys if names else job.state != "running",
    )


def _say_wanted(errors: Mapping[str, QuantchatError]) -> None:
    from quantchat.hub.downloads import NotFetched

    left = [name for name, error in errors.items() if isinstance(error, NotFetched) and error.again]
    if left:
        rm = f"quantchat rm {left[0]}"
        click.echo(
            f"still wanted: {', '.join(left)}; the app tries again, `{rm}` gives it up", err=True
        )


def _raise(errors: list[QuantchatError]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise DownloadError(
            "\n".join(error.message for error in errors),
            hint="; ".join(dict.fromkeys(error.hint for error in errors if error.hint)),
        )


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Ctrl+C and SIGTERM as they come, in place of an exception between any two steps.

    What is ignored, as Ctrl+C is by jobs in the background of a script, stays ignored.
    """
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number in heard:
            signal.signal(number, before[number])


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
        step = (progress.source, progress.trouble or progress.detail)
        if step != self._step:
            self._step = step
            click.echo(f"{progress.source}: {step[1]}", err=True)
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
    done, total_bytes = size_words(progress.done_bytes), progress.total_bytes
    text = f"{done} of {size_words(total_bytes)}" if total_bytes else done
    if progress.stalled:
        reason = f": {progress.trouble}" if progress.trouble else ""
        return f"{text}, stalled, {progress.waits}{reason}"
    if progress.bytes_per_s > 0:
        text += f", {size_words(progress.bytes_per_s)}/s"
    if progress.remaining_s is not None:
        minutes, seconds = divmod(round(progress.remaining_s), 60)
        text += f", {minutes}:{seconds:02d} left"
    return text
