"""Which process writes a turn, and whether it still runs.

A process id comes back after a while, so it is paired with the start of the process; on Linux
with host, boot and namespace too, for two containers or two hosts may share one folder.
"""

from __future__ import annotations

import functools
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Life: TypeAlias = Literal["alive", "gone", "elsewhere"]

START_TOLERANCE_S = 5.0
"""Without /proc the start is wall-clock time, which is corrected now and then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process as the database remembers it."""

    pid: int
    start: str
    """`host/boot/namespace/ticks` on Linux, else seconds since the epoch."""


def this_process() -> Owner:
    """The running process."""
    return _owner(os.getpid())


def life_of(owner: Owner) -> Life:
    """Whether that very process runs; `elsewhere` when it cannot be seen from here."""
    if not _has_proc():
        return _life_by_clock(owner)
    host, boot, namespace, _ = (*owner.start.split("/"), "", "", "", "")[:4]
    here = _place()
    if (host, boot, namespace) == here:
        return "alive" if _start(owner.pid) == owner.start else "gone"
    rebooted = host == here[0] and boot != here[1]
    return "gone" if rebooted else "elsewhere"


@functools.lru_cache(maxsize=4)
def _owner(pid: int) -> Owner:
    start = _start(pid)
    assert start is not None, "this process runs"
    return Owner(pid=pid, start=start)


def _life_by_clock(owner: Owner) -> Life:
    start = _start(owner.pid)
    try:
        same = start is not None and abs(float(start) - float(owner.start)) < START_TOLERANCE_S
    except ValueError:
        return "elsewhere"
    return "alive" if same else "gone"


def _start(pid: int) -> str | None:
    if _has_proc():
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        # The name stands in parentheses and may hold any byte; state and start follow it.
        state, *rest = stat[stat.rindex(b")") + 2 :].split()
        return None if state in (b"Z", b"X") else "/".join((*_place(), str(int(rest[18]))))
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return None


def _has_proc() -> bool:
    return os.path.exists("/proc/self/stat")


@functools.cache
def _place() -> tuple[str, str, str]:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return socket.gethostname(), boot, str(os.stat("/proc/self/ns/pid").st_ino)
