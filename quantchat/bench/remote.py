"""An engine's process as the benchmark sees it: orders out, answers in, errors with its last words."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any, Self

from quantchat.bench.ceilings import Ceilings
from quantchat.bench.contest import EngineFacts, GateResult, Job, RunTimes
from quantchat.errors import EngineError

LAST_WORDS_BYTES = 2000


class Remote:
    """A worker process; use as a context manager."""

    def __init__(self, first: dict[str, Any]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "quantchat.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
        )
        self._send(first)

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send an order and wait for its answer; raises EngineError with what the process said."""
        self._send(order)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise EngineError(f"the engine's process ended with {code}", hint=self._last_words())
        reply: dict[str, Any] = json.loads(line)
        if not reply["ok"]:
            raise EngineError(reply["message"], hint=reply["hint"])
        return reply

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _send(self, order: dict[str, Any]) -> None:
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

    def __init__(self, job: Job) -> None:
        super().__init__({"do": "load", "job": job.as_json()})
        try:
            fields = self.answer()["facts"]
        except BaseException:
            self.close()
            raise
        gate = fields.pop("gate")
        kernels = tuple(fields.pop("kernels"))
        self.job = job
        self.facts = EngineFacts(
            **fields, kernels=kernels, gate=None if gate is None else GateResult(**gate)
        )

    def run(self, prompt: list[int], tokens: int) -> RunTimes:
        """See BenchEngine.run."""
        times = self.ask({"do": "run", "prompt": prompt, "tokens": tokens})["times"]
        gaps, ids = times.pop("gaps_s"), times.pop("first_ids")
        return RunTimes(**times, gaps_s=tuple(gaps), first_ids=tuple(ids))

    def peak_bytes(self) -> int:
        """See BenchEngine.peak_bytes."""
        return int(self.ask({"do": "peak"})["peak_bytes"])


def remote_ceilings(device: str, threads: int) -> Ceilings:
    """Ceilings measured in a process that is gone before any engine starts."""
    with Remote({"do": "ceilings", "device": device, "threads": threads}) as remote:
        return Ceilings(**remote.answer()["ceilings"])
