"""The app's downloads over `quantchat.hub`: one thread looks after the list, one works it off.

Owns when what is tried, and what is told. Wishes are followed in the first thread, so that nothing
here waits for a disk or a lock; what other processes do to the list is seen once a second.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from quantchat.errors import Cancelled, QuantchatError
from quantchat.tui import figures
from quantchat.tui.control.transfer_rows import at_work, goes_on, is_due, listed, reason
from quantchat.tui.control.transfers import News, Transfer

if TYPE_CHECKING:
    from quantchat.hub.downloads import Wanted
    from quantchat.hub.local import LocalModel
    from quantchat.hub.progress import FetchProgress

log = logging.getLogger(__name__)

LOOK_S = 1.0
AGAIN_S = 15.0
"""Until a lost network is tried anew; twice as long each time, up to the longest."""
LONGEST_AGAIN_S = 300.0
CLOSE_S = 1.0
GIVE_UP_S = 3.0


class HubTransfers:
    """Implements `Transfers` with the real hub."""

    def __init__(self) -> None:
        self.arrived = 0
        self._wishes: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._lines: list[Transfer] = []
        self._news: list[News] = []
        self._changes, self._pending = 0, 0
        """Made here so far, and asked for but not made; a look at the list amid one is not shown."""
        self._running = ""
        self._progress: FetchProgress | None = None
        self._cancel = threading.Event()
        self._leaving = threading.Event()
        self._ending, self._dropping = "", ""
        """What is being stopped, and whether for good."""
        self._failures: dict[str, int] = {}
        """Name -> tries in a row that met no network."""
        self._not_before_s: dict[str, float] = {}
        self._keeper: threading.Thread | None = None
        self._worker: threading.Thread | None = None

    def begin(self) -> None:
        """Go on with what the last start left."""
        if self._keeper is None and not self._leaving.is_set():
            self._keeper = threading.Thread(target=self._keep, name="downloads", daemon=True)
            self._keeper.start()

    def rows(self) -> list[Transfer]:
        """In the order of their turns."""
        with self._lock:
            lines, name, progress = list(self._lines), self._running, self._progress
        if not name or progress is None:
            return lines
        live = at_work(name, progress)
        if all(line.name != name for line in lines):
            return [live, *lines]
        return [live if line.name == name else line for line in lines]

    def news(self) -> list[News]:
        """What happened since the last call."""
        with self._lock:
            told, self._news = self._news, []
        return told

    def add(self, names: Iterable[str], *, first: bool = False) -> None:
        """Ask for models; one that failed or was stopped waits again."""
        from quantchat.hub.names import entry_for

        entries = {name: entry_for(name.strip()) for name in names}
        for name, entry in entries.items():
            if entry is None:
                self._tell_failed(name, f"no model is called {name!r}", "", again=False)
        keys = list(dict.fromkeys(entry.alias for entry in entries.values() if entry is not None))
        with self._lock:
            there = {line.name for line in self._lines}
            self._lines = [
                dataclasses.replace(line, phase="waiting", message="", hint="")
                if line.name in keys and line.phase in ("failed", "stopped", "waiting")
                else line
                for line in self._lines
            ] + [Transfer(name=key, phase="waiting") for key in keys if key not in there]
        self._wish(lambda: self._want(keys, first))
        self.begin()

    def stop(self, name: str) -> None:
        """Let it be for now; its bytes stay."""
        self._wish(lambda: self._stop(name))

    def drop(self, name: str) -> None:
        """Take it off the list, and the bytes that came with it."""
        self._wish(lambda: self._drop(name))

    def close(self) -> None:
        """Stop within a second; what was at work waits for the next start."""
        self._leaving.set()
        self._cancel.set()
        self._wishes.put(None)
        until_s = time.monotonic() + CLOSE_S
        for thread in (self._worker, self._keeper):
            if thread is not None:
                thread.join(max(0.0, until_s - time.monotonic()))

    def began(self, name: str) -> None:
        """Its turn has come; told by `drain`, as are the next three."""
        with self._lock:
            self._changes += 1
            self._running, self._progress = name, None
            self._lines = [
                dataclasses.replace(line, phase="running", message="", hint="")
                if line.name == name
                else line
                for line in self._lines
            ]

    def moved(self, progress: FetchProgress) -> None:
        """Bytes or steps."""
        self._progress = progress
        if progress.bytes_per_s:
            self._failures.pop(self._running, None)
        if progress.notice:
            self._tell(News(what="renamed", name=self._running, message=progress.notice))

    def came(self, name: str, model: LocalModel) -> None:
        """It is on disk."""
        with self._lock:
            self._changes += 1
            self._running, self._progress = "", None
            self._lines = [line for line in self._lines if line.name != name]
            self._forget(name)
            self.arrived += 1
            self._news.append(News(what="came", name=name))

    def failed(self, name: str, error: QuantchatError) -> None:
        """It is not; what a network that comes back may mend is tried again later."""
        from quantchat.hub.downloads import NotFetched

        again = isinstance(error, NotFetched) and error.again
        with self._lock:
            self._changes += 1
            self._running, self._progress = "", None
        log.warning("%s was not downloaded: %s", name, error.message)
        if again and self._put_off(name) > 1:
            return
        self._tell_failed(name, error.message, error.hint, again=again)

    def _wish(self, wish: Callable[[], None]) -> None:
        with self._lock:
            self._changes += 1
            self._pending += 1
        self._wishes.put(wish)

    def _tell(self, news: News) -> None:
        with self._lock:
            self._news.append(news)

    def _tell_failed(self, name: str, message: str, hint: str, *, again: bool) -> None:
        words = reason(name, message)
        self._tell(News(what="failed", name=name, message=words, hint=hint, again=again))

    def _forget(self, name: str) -> None:
        self._failures.pop(name, None)
        self._not_before_s.pop(name, None)

    def _put_off(self, name: str) -> int:
        """How often in a row it was put off."""
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        wait_s = min(AGAIN_S * 2 ** (failures - 1), LONGEST_AGAIN_S)
        self._not_before_s[name] = time.monotonic() + wait_s
        return failures

    def _keep(self) -> None:
        """The thread that looks after the list."""
        self._look(first=True)
        while not self._leaving.is_set():
            try:
                wish = self._wishes.get(timeout=LOOK_S)
            except queue.Empty:
                wish = None
            if wish is not None:
                self._follow(wish)
            if not self._leaving.is_set():
                self._look()

    def _follow(self, wish: Callable[[], None]) -> None:
        try:
            wish()
        except QuantchatError as error:
            self._tell(News(what="refused", name="", message=error.message, hint=error.hint))
        except Exception:
            log.exception("the list of downloads")
        with self._lock:
            self._pending -= 1

    def _look(self, *, first: bool = False) -> None:
        try:
            self._see(first=first)
        except (OSError, QuantchatError):
            log.exception("the list of downloads cannot be read")

    def _see(self, *, first: bool) -> None:
        from quantchat.hub.downloads import wanted
        from quantchat.hub.partial import unfinished

        with self._lock:
            changes, pending, running = self._changes, self._pending, self._running
            before = {line.name: line for line in self._lines}
        jobs = wanted()
        parts = {part.name: part for part in unfinished()} if jobs else {}
        now_s = time.monotonic()
        lines = []
        for job in jobs:
            until_s = self._not_before_s.get(job.name)
            lines.append(
                listed(
                    job,
                    parts.get(job.name),
                    own=job.name == running,
                    again_s=None if until_s is None else until_s - now_s,
                )
            )
        with self._lock:
            overtaken = pending > 0 or changes != self._changes
            if not overtaken:
                self._lines = lines
        if first:
            busy = any(line.phase == "elsewhere" for line in lines)
            due = [line for job, line in zip(jobs, lines, strict=True) if is_due(job)]
            news = None if busy else goes_on(due)
            if news is not None:
                self._tell(news)
        elif not overtaken:
            before.pop(running, None)
            self._compare(before, jobs)
        if self._worker is None or not self._worker.is_alive():
            self._set_to_work(jobs)

    def _compare(self, before: dict[str, Transfer], jobs: list[Wanted]) -> None:
        """What other processes did to the list."""
        from quantchat.hub.local import find

        for name in before.keys() - {job.name for job in jobs}:
            if find(name) is None:
                self._tell(News(what="dropped", name=name))
                continue
            with self._lock:
                self._forget(name)
                self.arrived += 1
                self._news.append(News(what="came", name=name))
        for job in jobs:
            old = before.get(job.name)
            if job.state == "failed" and old is not None and old.phase == "elsewhere":
                if job.again:
                    self._put_off(job.name)
                self._tell_failed(job.name, job.message, job.hint, again=job.again)

    def _set_to_work(self, jobs: list[Wanted]) -> None:
        if self._leaving.is_set() or not any(self._takes(job) for job in jobs):
            return
        cancel = self._cancel = threading.Event()
        self._worker = threading.Thread(
            target=self._work, args=(cancel,), name="download", daemon=True
        )
        self._worker.start()
        if self._leaving.is_set():
            cancel.set()

    def _takes(self, job: Wanted) -> bool:
        return is_due(job) and time.monotonic() >= self._not_before_s.get(job.name, 0.0)

    def _work(self, cancel: threading.Event) -> None:
        """The thread that works the list off, until nothing of it is due."""
        from quantchat.hub.drain import drain

        try:
            drain(self, cancel=cancel, takes=self._takes, waits=False, leaving=self._leaving)
        except Cancelled:
            self._was_stopped(self._running)
        except Exception as error:
            log.exception("download of %s", self._running)
            self._tell_failed(
                self._running,
                f"{type(error).__name__}: {error}",
                "the log has the details",
                again=False,
            )
        finally:
            with self._lock:
                self._changes += 1
                self._running, self._progress = "", None
            self._wishes.put(None)

    def _was_stopped(self, name: str) -> None:
        from quantchat.hub.downloads import want

        if self._leaving.is_set() or name == self._dropping:
            return
        if name == self._ending:
            self._tell(News(what="stopped", name=name))
        else:
            # The one that was to be stopped had just come; this one was next.
            want([name])

    def _want(self, names: list[str], first: bool) -> None:
        from quantchat.hub.downloads import want

        for name in names:
            self._forget(name)
        want(names, first=first)

    def _stop(self, name: str) -> None:
        from quantchat.hub.downloads import hold

        if name == self._running:
            self._end(name)
            return
        hold(name)
        self._forget(name)
        self._tell(News(what="stopped", name=name))

    def _drop(self, name: str) -> None:
        from quantchat.hub.giving_up import give_up

        if name == self._running:
            self._dropping = name
            self._end(name)
            self._dropping = ""
        freed_bytes = give_up(name)
        with self._lock:
            self._changes += 1
            self._lines = [line for line in self._lines if line.name != name]
            self._forget(name)
        freed = f"{figures.size(freed_bytes)} are free again." if freed_bytes else ""
        self._tell(News(what="dropped", name=name, message=freed))

    def _end(self, name: str) -> None:
        """Stop what is at work and wait for it."""
        self._ending = name
        self._cancel.set()
        if self._worker is not None:
            self._worker.join(GIVE_UP_S)
        self._ending = ""
