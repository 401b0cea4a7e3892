"""The list of wanted downloads: shared by the app and `quantchat pull`, and kept over restarts.

Owns `<data>/downloads`: `queue.json` in the order of asking, and one lock per download at work, by
which the death of its process shows. `fetch` enters and leaves; `drain` works the list off.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, get_args

from quantchat import paths
from quantchat.errors import Cancelled, DownloadError, QuantchatError
from quantchat.hub.locks import is_locked, open_locked
from quantchat.hub.names import file_name

State: TypeAlias = Literal["waiting", "running", "interrupted", "stopped", "failed"]

_STATES: tuple[State, ...] = get_args(State)
_FORMAT = 1
_QUEUE_BYTES = 1 << 20
_JOBS_MAX = 500
_LOCK_S = 10.0
_LOOKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A download that somebody asked for and that has not ended."""

    name: str
    """As it was asked for."""
    state: State = "waiting"
    """Interrupted: its process died; stopped: by the user."""
    message: str = ""
    """Why it failed."""
    hint: str = ""
    again: bool = False
    """It failed of something that may pass, such as a network that was gone."""
    added_s: float = 0.0
    """Since the epoch."""


class NotFetched(DownloadError):
    """No source delivered; `again` where that may pass by itself."""

    def __init__(self, message: str, *, hint: str = "", again: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.again = again


class Elsewhere(DownloadError):
    """Another process is at it."""


def wanted() -> list[Wanted]:
    """The list, in the order of asking; needs no network."""
    return [
        replace(job, state="interrupted")
        if job.state == "running" and not is_locked(_run_lock(job.name))
        else job
        for job in _read()
    ]


def want(names: Iterable[str], *, first: bool = False) -> None:
    """Put names at the end of the list; those that are there wait again, in their old place.

    `first` puts them before all others that wait.
    """

    def change(jobs: list[Wanted]) -> list[Wanted]:
        for number, name in enumerate(dict.fromkeys(names)):
            place = _place(jobs, name)
            if place is not None and is_locked(_run_lock(name)):
                continue
            job = Wanted(name=name, added_s=time.time() if place is None else jobs[place].added_s)
            if first:
                jobs = [other for other in jobs if other.name != name]
                jobs.insert(number, job)
            elif place is None:
                jobs.append(job)
            else:
                jobs[place] = job
        if len(jobs) > _JOBS_MAX:
            raise DownloadError(
                f"{_JOBS_MAX} downloads wait already", hint="remove some with `quantchat rm NAME`"
            )
        return jobs

    _change(change)


def unwant(name: str) -> bool:
    """Take a name off the list; whether it was there."""
    found: list[Wanted] = []

    def change(jobs: list[Wanted]) -> list[Wanted]:
        found.extend(job for job in jobs if job.name == name)
        return [job for job in jobs if job.name != name]

    if _place(_read(), name) is not None:
        _change(change)
    return bool(found)


def hold(name: str) -> None:
    """Let a waiting or failed one be. Raises Elsewhere while a process works at it."""

    def change(jobs: list[Wanted]) -> list[Wanted]:
        place = _place(jobs, name)
        if place is not None:
            jobs[place] = Wanted(name=name, state="stopped", added_s=jobs[place].added_s)
        return jobs

    if is_locked(_run_lock(name)):
        raise Elsewhere(f"{name} is being downloaded by another quantchat", hint="stop it there")
    _change(change)


@contextlib.contextmanager
def entered(
    name: str, *, waits: bool = True, leaving: threading.Event | None = None
) -> Iterator[None]:
    """On the list while the block runs; off it afterwards, unless the block failed.

    Raises Elsewhere where another process is at it and the block does not wait for that one. With
    `leaving` set, a cancelled block goes on with the next start; else it counts as stopped.
    """
    lock = _enter(name)
    if lock is None:
        if not waits:
            raise Elsewhere(f"{name} is being downloaded by another quantchat")
        # The other process keeps the list.
        yield
        return
    try:
        _note(name, "running")
        try:
            yield
        except Cancelled:
            _note(name, "waiting" if leaving is not None and leaving.is_set() else "stopped")
            raise
        except QuantchatError as error:
            again = isinstance(error, NotFetched) and error.again
            _note(name, "failed", error.message, error.hint, again=again)
            raise
        except Exception as error:
            _note(name, "failed", str(error))
            raise
        unwant(name)
    finally:
        with contextlib.suppress(OSError):
            _run_lock(name).unlink()
        lock.close()


def failed(name: str, error: QuantchatError, *, state: State | None = None) -> bool:
    """Write down why a listed one did not come, where that was not done yet; whether it was.

    `state`: only where it is in that one.
    """
    noted: list[str] = []

    def change(jobs: list[Wanted]) -> list[Wanted]:
        place = _place(jobs, name)
        now: State = "failed" if place is None else jobs[place].state
        if place is None or now == "failed" or state not in (None, now):
            return jobs
        noted.append(name)
        jobs[place] = replace(
            jobs[place], state="failed", message=error.message, hint=error.hint, again=False
        )
        return jobs

    if _place(_read(), name) is not None:
        _change(change)
    return bool(noted)


def _enter(name: str) -> IO[str] | None:
    """The lock of a download; None while another process has it, not only looks at it."""
    wait = threading.Event()
    for _ in range(_LOOKS):
        lock = open_locked(_run_lock(name))
        if lock is not None:
            return lock
        wait.wait(0.01)
    return None


def _note(
    name: str, state: State, message: str = "", hint: str = "", *, again: bool = False
) -> None:
    def change(jobs: list[Wanted]) -> list[Wanted]:
        place = _place(jobs, name)
        if place is None:
            if state != "running":
                # Taken off the list while it ran.
                return jobs
            jobs.append(Wanted(name=name, added_s=time.time()))
            place = len(jobs) - 1
        jobs[place] = replace(jobs[place], state=state, message=message, hint=hint, again=again)
        return jobs

    _change(change)


def _place(jobs: list[Wanted], name: str) -> int | None:
    return next((number for number, job in enumerate(jobs) if job.name == name), None)


def _change(change: Callable[[list[Wanted]], list[Wanted]]) -> None:
    lock = _queue_lock()
    try:
        _write(change(_read()))
    finally:
        lock.close()


def _queue_lock() -> IO[str]:
    until_s = time.monotonic() + _LOCK_S
    wait = threading.Event()
    while (lock := open_locked(_folder() / "queue.lock")) is None:
        if time.monotonic() > until_s:
            raise DownloadError(
                "the list of downloads is held by another program",
                hint=f"end what holds {_folder() / 'queue.lock'}",
            )
        wait.wait(0.01)
    return lock


def _folder() -> Path:
    folder = paths.data_dir() / "downloads"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _run_lock(name: str) -> Path:
    return _folder() / f"{file_name(name)}.lock"


def _read() -> list[Wanted]:
    path = _folder() / "queue.json"
    try:
        if path.stat().st_size > _QUEUE_BYTES:
            return []
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    jobs = data.get("jobs") if isinstance(data, dict) and data.get("format") == _FORMAT else None
    if not isinstance(jobs, list):
        return []
    return [job for job in map(_parse, jobs[:_JOBS_MAX]) if job is not None]


def _parse(data: Any) -> Wanted | None:
    if not isinstance(data, dict):
        return None
    name, message, hint = (data.get(key) for key in ("name", "message", "hint"))
    added_s = data.get("added_s")
    state = next((each for each in _STATES if each == data.get("state")), None)
    if not isinstance(name, str) or not name or state is None:
        return None
    return Wanted(
        name=name[:500],
        state=state,
        message=message[:2000] if isinstance(message, str) else "",
        hint=hint[:2000] if isinstance(hint, str) else "",
        again=data.get("again") is True,
        added_s=float(added_s) if isinstance(added_s, int | float) else 0.0,
    )


def _write(jobs: list[Wanted]) -> None:
    path = _folder() / "queue.json"
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as out:
        json.dump({"format": _FORMAT, "jobs": [asdict(job) for job in jobs]}, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    os.replace(fresh, path)
