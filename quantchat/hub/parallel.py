"""Several files at once: a few threads, one honest count, the first fault stops all.

Owns threads and the counting; each file is `download`'s. What came is kept for the next call.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quantchat.errors import Cancelled
from quantchat.hub.download import Remote, download
from quantchat.hub.progress import Meter, Share

FILES_AT_ONCE = 4
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A file and where it goes."""

    remote: Remote
    target: Path


class _Crew:
    def __init__(self, transfers: Sequence[Transfer], work: Path) -> None:
        self.shares = [Share() for _ in transfers]
        self.digests = [""] * len(transfers)
        self.active: dict[int, str] = {}
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self._transfers = transfers
        self._work = work
        self._waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(len(transfers)):
            self._waiting.put(number)
        self._threads = [
            threading.Thread(target=self._run, name=f"quantchat-file-{number}", daemon=True)
            for number in range(min(FILES_AT_ONCE, len(transfers)))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Whether all threads ended."""
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout_s)
                return False
        return True

    def finished(self) -> int:
        return sum(map(bool, self.digests))

    def trouble(self) -> str:
        """What holds all files up that are at work; "" while one of them comes."""
        found = [self.shares[number].trouble for number in list(self.active.copy())]
        return found[0] if found and all(found) else ""

    def again_at_s(self) -> float | None:
        """When the first of the files at work is tried again; None while one of them is asked."""
        found = [self.shares[number].again_at_s for number in list(self.active.copy())]
        waiting = [each for each in found if each is not None]
        return min(waiting) if waiting and len(waiting) == len(found) else None

    def worked(self) -> bool:
        """Whether a byte came."""
        return any(share.done_bytes > share.kept_bytes for share in self.shares)

    def doing(self) -> str:
        names = list(self.active.copy().values())
        if len(names) < 2:
            return "".join(names)
        return f"{names[0]} and {len(names) - 1} more"

    def _run(self) -> None:
        while not self.stop.is_set():
            try:
                number = self._waiting.get_nowait()
            except queue.Empty:
                return
            transfer = self._transfers[number]
            self.active[number] = transfer.target.name
            try:
                self.digests[number] = download(
                    transfer.remote,
                    transfer.target,
                    meter=self.shares[number],
                    cancel=self.stop,
                    work=self._work,
                    worked=self.worked,
                )
            # Handed over and raised in the caller's thread; what follows from it is left out.
            except BaseException as error:
                if not self.stop.is_set():
                    self.error = error
                    self.stop.set()
            finally:
                del self.active[number]


def download_all(
    transfers: Sequence[Transfer], *, work: Path, meter: Meter, cancel: threading.Event
) -> list[str]:
    """Get all files on top of what `meter` counts already; their digests in the same order.

    Reports in this thread. Raises Cancelled within a second of `cancel`, SourceError.
    """
    base_bytes, files_done = meter.done_bytes, meter.files_done
    crew = _Crew(transfers, work)
    if transfers:
        meter.step(transfers[0].target.name)
    crew.start()
    try:
        while not crew.wait(_LOOK_S):
            if cancel.is_set():
                crew.stop.set()
            _count(crew, base_bytes, files_done, meter)
    finally:
        crew.stop.set()
    _count(crew, base_bytes, files_done, meter)
    if crew.error is not None:
        raise crew.error
    if cancel.is_set():
        raise Cancelled("the download was stopped")
    return crew.digests


def _count(crew: _Crew, base_bytes: int, files_done: int, meter: Meter) -> None:
    meter.detail = crew.doing() or meter.detail
    meter.trouble, meter.again_at_s = crew.trouble(), crew.again_at_s()
    meter.files_done = files_done + crew.finished()
    done_bytes = sum(share.done_bytes for share in crew.shares)
    kept_bytes = sum(share.kept_bytes for share in crew.shares)
    meter.set_counts(base_bytes + done_bytes, base_bytes + kept_bytes)
