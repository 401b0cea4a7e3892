"""One input at a time: what became of it, how long it took and what it allocated.

Peaks are tracemalloc's, over what was there before; what Rust and torch take shows in the process's
resident peak where the system tells it.
"""

from __future__ import annotations

import shutil
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

from fuzz_kinds import Kind
from fuzz_seeds import Files

from quantchat.errors import QuantchatError

MOST_CHARS = 800
"""Of an error's text."""
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one input did."""

    result: str
    """The error's class, "accepted", or what went wrong."""
    wrong: str
    """Empty where all is well."""
    size: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    resident_bytes: int | None

    @property
    def over(self) -> int:
        """Bytes beyond twice the input's size."""
        return self.peak_bytes - 2 * self.size


def lay(files: Files, folder: Path) -> int:
    """Write the files into an empty folder; their size."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return sum(map(len, files.values()))


def run(kind: Kind, files: Files, folder: Path) -> Outcome:
    """Lay an input out and use it; tracemalloc must be on."""
    size = lay(files, folder)
    resident = _resident_start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    started, cpu = time.perf_counter(), time.thread_time()
    result, wrong = "accepted", ""
    try:
        kind.use(folder)
    except QuantchatError as error:
        result = type(error).__name__
        text = str(error)
        if "\n" in error.message or len(text) > MOST_CHARS or "\0" in text or "\x1b" in text:
            wrong = f"an error's text: {text[:200]!r}"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        result, wrong = type(error).__name__, f"{type(error).__name__}: {str(error)[:200]}"
    cpu, seconds = time.thread_time() - cpu, time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1] - before
    return Outcome(
        result=result,
        wrong=wrong,
        size=size,
        seconds=seconds,
        cpu_seconds=cpu,
        peak_bytes=peak,
        resident_bytes=None if resident is None else _status("VmHWM") - resident,
    )


def _resident_start() -> int | None:
    """Resident bytes, the peak set back to them; None where the system does not do that."""
    try:
        _CLEAR.write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _status(key: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) << 10
