"""An engine's process as the benchmark sees it: orders out, answers in, errors with its last words.

Owns how long a peer may take in all: one that is slower is ended, and the others go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from types import TracebackType
from typing import Any, Self

from quantchat.bench.ceilings import Ceilings
from quantchat.bench.contest import EngineFacts, GateResult, Job, RunTimes
from quantchat.bench.kernel_scope import Scope
from quantchat.bench.record import KernelGate
from quantchat.errors import EngineError

LAST_WORDS_BYTES = 2000
CLOSE_S = 10.0
MOST_GATES = 12
GATE_BYTES = 3 << 30
"""Card memory of a process that checks kernels, its context included."""
WORKER = (sys.executable, "-P", "-m", "quantchat.bench.worker")
"""-P: the folder it starts in must not offer modules, least of all one called kernels."""


class Remote:
    """A worker process; use as a context manager."""

    def __init__(self, first: dict[str, Any], *, budget_s: float | None = None) -> None:
        """`budget_s`: longest time that all its answers together may take; None sets no limit."""
        self._budget_s = budget_s
        self._left_s = budget_s
        self._ended = ""
        """Why the process was ended, once it was."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="bench-answers", daemon=True)
        self._reader.start()
        self._send(first)

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send an order and wait for its answer; raises EngineError with what the process said."""
        self._send(order)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next answer."""
        asked_s = time.perf_counter()
        try:
            line = self._lines.get(timeout=self._left_s)
        except queue.Empty:
            self._process.kill()
            self._ended = f"took more than {self._budget_s:.0f} s in all, ended"
            raise EngineError(self._ended) from None
        if self._left_s is not None:
            self._left_s = max(0.0, self._left_s - (time.perf_counter() - asked_s))
        if not line:
            self._lines.put("")
            code = self._process.wait()
            raise EngineError(f"the engine's process ended with {code}", hint=self._last_words())
        reply: dict[str, Any] = json.loads(line)
        if not reply["ok"]:
            raise EngineError(reply["message"], hint=reply["hint"])
        return reply

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=CLOSE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _read(self) -> None:
        """Pass lines on as they come; an empty one means that the process has closed its end."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _send(self, order: dict[str, Any]) -> None:
        if self._ended:
            raise EngineError(self._ended)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise EngineError("the engine's process ended", hint=self._last_words()) from None

    def _last_words(self) -> str:
        self._log.seek(0)
        return self._log.read()[-LAST_WORDS_BYTES:].decode("utf-8", "replace").strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class RemoteEngine(Remote):
    """An engine in its own process; loaded and warm once constructed."""

    def __init__(self, job: Job, *, budget_s: float | None = None) -> None:
        super().__init__({"do": "load", "job": job.as_json()}, budget_s=budget_s)
        try:
            fields = self.answer()["facts"]
        except BaseException:
            self.close()
            raise
        gate = fields.pop("gate")
        kernels, tiles = tuple(fields.pop("kernels")), tuple(fields.pop("tiles"))
        self.job = job
        self.facts = EngineFacts(
            **fields,
            kernels=kernels,
            tiles=tiles,
            gate=None if gate is None else GateResult(**gate),
        )

    def run(self, prompt: list[int], tokens: int, rows: int = 1) -> RunTimes:
        """See BenchEngine.run."""
        order = {"do": "run", "prompt": prompt, "tokens": tokens, "rows": rows}
        times = self.ask(order)["times"]
        gaps, ids = times.pop("gaps_s"), times.pop("first_ids")
        return RunTimes(**times, gaps_s=tuple(gaps), first_ids=tuple(ids))

    def peak_bytes(self) -> int:
        """See BenchEngine.peak_bytes."""
        return int(self.ask({"do": "peak"})["peak_bytes"])


def remote_kernel_gate(scope: Scope, workers: int) -> KernelGate:
    """Kernels checked on the card, in processes that are gone before any engine starts.

    Several, since most of the first check is compiling.
    """
    order = {
        "do": "kernels",
        "dtypes": scope.dtypes,
        "parts": None if scope.parts is None else sorted(scope.parts),
        "shares": workers,
    }
    with contextlib.ExitStack() as stack:
        remotes = [
            stack.enter_context(Remote({**order, "share": share})) for share in range(workers)
        ]
        found = [remote.answer()["gate"] for remote in remotes]
    return KernelGate(
        cases=sum(part["cases"] for part in found),
        failures=tuple(failure for part in found for failure in part["failures"]),
    )


def gate_workers(free_bytes: int) -> int:
    """Processes that check kernels at once on a card with that much free memory."""
    return max(1, min(MOST_GATES, os.cpu_count() or 1, free_bytes // GATE_BYTES))


def remote_ceilings(device: str, threads: int) -> Ceilings:
    """Ceilings measured in a process that is gone before any engine starts."""
    with Remote({"do": "ceilings", "device": device, "threads": threads}) as remote:
        return Ceilings(**remote.answer()["ceilings"])
