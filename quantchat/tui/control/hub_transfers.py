"""The app's downloads over `quantchat.hub`: one thread looks after the list, one works it off.

Owns when what is tried. Wishes are followed in the first thread, so that nothing here waits for a
disk or a lock; what other processes do to the list is seen once a second.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from quantchat.errors import Cancelled, QuantchatError
from quantchat.tui import figures
from quantchat.tui.control.transfer_board import Board
from quantchat.tui.control.transfer_rows import goes_on, is_due, listed
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
        self._board = Board()
        self._wishes: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._cancel = threading.Event()
        self._leaving = threading.Event()
        self._ending, self._dropping = "", ""
        """What is being stopped, and whether for good."""
        self._failures: dict[str, int] = {}
        """Name -> tries in a row that met no network."""
        self._not_before_s: dict[str, float] = {}
        self._left: list[Transfer] = []
        """What the last start left and is said to go on, once its source answers."""
        self._keeper: threading.Thread | None = None
        self._worker: threading.Thread | None = None

    @property
    def arrived(self) -> int:
        """How many came to disk since the start."""
        return self._board.arrived

    def begin(self) -> None:
        """Go on with what the last start left."""
        if self._keeper is None and not self._leaving.is_set():
            self._keeper = threading.Thread(target=self._keep, name="downloads", daemon=True)
            self._keeper.start()

    def rows(self) -> list[Transfer]:
        """In the order of their turns."""
        return self._board.rows()

    def news(self) -> list[News]:
        """What happened since the last call."""
        return self._board.take_news()

    def add(self, names: Iterable[str], *, first: bool = False) -> None:
        """Ask for models; one that failed or was stopped waits again."""
        from quantchat.hub.names import entry_for

        keys: dict[str, None] = {}
        for name in names:
            entry = entry_for(name.strip())
            if entry is None:
                self._board.tell_failed(name, f"no model is called {name!r}", "", again=False)
            else:
                keys[entry.alias] = None
        self._wish(lambda: self._want(list(keys), first), list(keys))
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
        self._board.begin(name)

    def moved(self, progress: FetchProgress) -> None:
        """Bytes or steps."""
        self._board.move(progress)
        name = self._board.running
        if progress.bytes_per_s:
            self._failures.pop(name, None)
        if progress.files or progress.bytes_per_s:
            self._tell_left()
        if progress.notice:
            self._board.tell(News(what="renamed", name=name, message=progress.notice))

    def came(self, name: str, model: LocalModel) -> None:
        """It is on disk."""
        self._tell_left()
        self._forget(name)
        self._board.came(name)

    def failed(self, name: str, error: QuantchatError) -> None:
        """It is not; what a network that comes back may mend is tried again later."""
        from quantchat.hub.downloads import NotFetched

        log.warning("%s was not downloaded: %s", name, error.message)
        again = isinstance(error, NotFetched) and error.again
        self._ended(name)
        times = self._put_off(name) if again else 1
        self._board.end()
        if times == 1:
            self._board.tell_failed(name, error.message, error.hint, again=again)

    def _wish(self, wish: Callable[[], None], names: list[str] | None = None) -> None:
        self._board.wish(names or [])
        self._wishes.put(wish)

    def _forget(self, name: str) -> None:
        self._failures.pop(name, None)
        self._not_before_s.pop(name, None)

    def _ended(self, name: str) -> None:
        """Not said to go on any more."""
        self._left = [line for line in self._left if line.name != name]

    def _tell_left(self) -> None:
        left, self._left = self._left, []
        news = goes_on(left)
        if news is not None:
            self._board.tell(news)

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
            said = News(what="refused", name="", message=error.message, hint=error.hint)
            self._board.tell(said)
        except Exception as error:
            log.exception("the list of downloads")
            self._board.tell(
                News(what="refused", name="", message=f"The list of downloads: {error}.")
            )
        self._board.followed()

    def _look(self, *, first: bool = False) -> None:
        try:
            self._see(first=first)
        except Exception:
            # The thread goes on: what cannot be read now may be readable in a second.
            log.exception("the list of downloads cannot be read")

    def _see(self, *, first: bool) -> None:
        from quantchat.hub.downloads import wanted
        from quantchat.hub.partial import unfinished

        before = self._board.glance()
        jobs = wanted()
        parts = {part.name: part for part in unfinished()} if jobs else {}
        now_s = time.monotonic()
        lines = []
        for job in jobs:
            until_s = self._not_before_s.get(job.name)
            again_s = None if until_s is None else until_s - now_s
            own = job.name == before.running
            lines.append(listed(job, parts.get(job.name), own=own, again_s=again_s))
        shown = self._board.put(lines, before)
        if first:
            busy = any(line.phase == "elsewhere" for line in lines)
            due = [line for job, line in zip(jobs, lines, strict=True) if is_due(job)]
            self._left = [] if busy else due
        elif shown:
            before.lines.pop(before.running, None)
            self._compare(before.lines, jobs)
        if self._worker is None or not self._worker.is_alive():
            self._set_to_work(jobs)

    def _compare(self, before: dict[str, Transfer], jobs: list[Wanted]) -> None:
        """What other processes did to the list."""
        from quantchat.hub.local import find

        for name in before.keys() - {job.name for job in jobs}:
            self._forget(name)
            if find(name) is None:
                self._ended(name)
                self._board.tell(News(what="dropped", name=name))
            else:
                self._tell_left()
                self._board.came(name)
        for job in jobs:
            old = before.get(job.name)
            if job.state == "failed" and old is not None and old.phase == "elsewhere":
                if job.again:
                    self._put_off(job.name)
                self._board.tell_failed(job.name, job.message, job.hint, again=job.again)

    def _set_to_work(self, jobs: list[Wanted]) -> None:
        if self._leaving.is_set() or not any(self._takes(job) for job in jobs):
            return
        self._ending = ""
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

        board = self._board
        try:
            drain(self, cancel=cancel, takes=self._takes, waits=False, leaving=self._leaving)
        except Cancelled:
            self._was_stopped(board.running)
        except Exception as error:
            log.exception("download of %s", board.running)
            message = f"{type(error).__name__}: {error}"
            board.tell_failed(board.running, message, "the log has the details", again=False)
        finally:
            board.end()
            self._wishes.put(None)

    def _was_stopped(self, name: str) -> None:
        from quantchat.hub.downloads import want

        if self._leaving.is_set() or name == self._dropping:
            return
        if name == self._ending:
            self._board.tell(News(what="stopped", name=name))
        else:
            # The one that was to be stopped had just come; this one was next.
            want([name])

    def _want(self, names: list[str], first: bool) -> None:
        from quantchat.hub.downloads import want

        for name in names:
            self._forget(name)
        want(names, first=first)
        later = [name for name in names if name != self._board.running]
        if later and self._board.running:
            args = (later,)
            threading.Thread(target=self._ask, args=args, name="ask", daemon=True).start()

    def _ask(self, names: list[str]) -> None:
        """See before their turns whether the hub will give them: that may be hours later."""
        from quantchat.hub.downloads import failed
        from quantchat.hub.fetch import refused

        for name in names:
            try:
                error = refused(name, cancel=self._leaving)
                if error is not None and failed(name, error, state="waiting"):
                    self._board.tell_failed(name, error.message, error.hint, again=False)
                    self._wishes.put(None)
            except Cancelled:
                return
            except Exception:
                log.exception("asking for %s", name)

    def _stop(self, name: str) -> None:
        from quantchat.hub.downloads import hold

        self._ended(name)
        if name == self._board.running:
            self._end(name)
            return
        hold(name)
        self._forget(name)
        self._board.tell(News(what="stopped", name=name))

    def _drop(self, name: str) -> None:
        from quantchat.hub.giving_up import give_up

        self._ended(name)
        if name == self._board.running:
            self._dropping = name
            self._end(name)
            self._dropping = ""
        freed_bytes = give_up(name)
        self._forget(name)
        self._board.drop(name)
        if freed_bytes is None:
            # It came while it was asked about.
            return
        freed = f"{figures.size(freed_bytes)} are free again." if freed_bytes else ""
        self._board.tell(News(what="dropped", name=name, message=freed))

    def _end(self, name: str) -> None:
        """Stop what is at work and wait for it, not for ever; it stays the one that is to end."""
        self._ending = name
        self._cancel.set()
        if self._worker is not None:
            self._worker.join(GIVE_UP_S)
