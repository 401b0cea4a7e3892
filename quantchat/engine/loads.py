"""Loads under way, a thread each, beside an engine that goes on answering.

Owns their jobs and what they share; importing this loads no torch. A finished model goes to the
engine thread, which alone touches the slots.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from quantchat.engine.commands import Command, Install, Lost, MakeRoom
from quantchat.engine.device_errors import first_line
from quantchat.engine.load_job import LoadJob
from quantchat.errors import Cancelled, DeviceLostError, EngineError, QuantchatError
from quantchat.events import Event, LoadFailed
from quantchat.requests import LoadRequest, Slot

if TYPE_CHECKING:
    from quantchat.engine.loading import SharedDecoders
    from quantchat.engine.room import Room
    from quantchat.engine.runtime import Runtime

logger = logging.getLogger(__name__)

ROOM_POLL_S = 0.1


class Loads:
    """The loads of all slots, the latest of each."""

    def __init__(
        self,
        *,
        ids: itertools.count[int],
        emit: Callable[[Event], None],
        put: Callable[[Command], None],
        runtimes: dict[Slot, Runtime],
        alive: Callable[[], bool],
    ) -> None:
        """`put` tells the engine thread, `runtimes` are its models, `alive` whether it still runs."""
        self._ids = ids
        self._emit = emit
        self._put = put
        self._runtimes = runtimes
        self._alive = alive
        self._jobs: dict[Slot, LoadJob] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._shared: SharedDecoders | None = None
        self.device_lost: DeviceLostError | None = None
        """Why no card can be used any more in this process."""
        self.torch_ready = threading.Event()
        """Set when torch is imported."""

    def start(self, request: LoadRequest) -> int:
        """A load's id; it replaces one of the same slot that is under way."""
        job = LoadJob(next(self._ids), request, self._emit)
        with self._lock:
            earlier = self._jobs.get(request.slot)
            if earlier is not None:
                earlier.cancelled.set()
            self._jobs[request.slot] = job
            thread = threading.Thread(
                target=self._run, args=(job,), name=f"load-{job.load_id}", daemon=True
            )
            self._threads = [*(each for each in self._threads if each.is_alive()), thread]
            thread.start()
        return job.load_id

    def cancel(self, slot: Slot) -> None:
        """Give the slot's load up."""
        with self._lock:
            job = self._jobs.get(slot)
        if job is not None:
            job.cancelled.set()

    def cancel_all(self) -> None:
        """Give every load up."""
        with self._lock:
            for job in self._jobs.values():
                job.cancelled.set()

    def join(self, timeout_s: float) -> None:
        """Wait for loads that were given up: a process that ends within torch's code aborts."""
        until_s = time.monotonic() + timeout_s
        with self._lock:
            threads = self._threads
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))

    def _run(self, job: LoadJob) -> None:
        problem: QuantchatError
        try:
            job.report("import", 0, 0, "torch")
            self._read_ahead(job)
            from quantchat.engine.load_errors import load_problem
            from quantchat.engine.loading import SharedDecoders, load_model
        except Exception as error:
            logger.exception("torch cannot be imported")
            reason = f"{type(error).__name__}: {first_line(str(error))}"
            problem = EngineError(f"loading failed: {reason}", hint="install quantchat again")
            self.failed(job, problem)
            return
        try:
            with self._lock:
                if self._shared is None:
                    self._shared = SharedDecoders.empty()
            model = [
                load_model(
                    self._without_lost_card(job.request),
                    job.report,
                    job.cancelled.is_set,
                    self._shared,
                    self._room(job),
                )
            ]
            self._put(Install(job, model))
            return
        except Exception as error:
            problem = load_problem(error, job.request)
        if isinstance(problem, DeviceLostError):
            # Known at once, so that the next load meets it; the engine thread clears up.
            self.device_lost = problem
            self._put(Lost(problem))
        self.failed(job, problem)

    def _read_ahead(self, job: LoadJob) -> None:
        """At the first load the disk works while torch is imported."""
        if self.torch_ready.is_set():
            return
        from quantchat.engine.read_ahead import read_ahead

        threading.Thread(
            target=read_ahead,
            args=(job.request, self.torch_ready.is_set),
            name="read-ahead",
            daemon=True,
        ).start()

    def _without_lost_card(self, request: LoadRequest) -> LoadRequest:
        """The request, on the CPU where the card is lost and was not demanded."""
        lost = self.device_lost
        if lost is None or request.device == "cpu":
            return request
        if request.device == "auto":
            return replace(request, device="cpu")
        raise lost

    def _room(self, job: LoadJob) -> Room | None:
        """What the slot's model would free; None where that is nothing."""
        from quantchat.engine.memory import held_bytes
        from quantchat.engine.room import Room

        runtimes = self._runtimes.copy()
        runtime = runtimes.pop(job.request.slot, None)
        if runtime is None:
            return None
        model = runtime.model
        shared = any(other.model.decoder is model.decoder for other in runtimes.values())
        plan = model.plan
        return Room(
            device=plan.device,
            gpu_index=plan.gpu_index,
            held_bytes=model.pool.nbytes if shared else held_bytes(model),
            make=lambda: self._make_room(job),
        )

    def _make_room(self, job: LoadJob) -> None:
        """Have the engine thread empty the slot, and wait for it."""
        command = MakeRoom(job, threading.Event())
        self._put(command)
        while not command.done.wait(ROOM_POLL_S):
            if job.cancelled.is_set() or not self._alive():
                raise Cancelled("loading was stopped")

    def failed(self, job: LoadJob, problem: QuantchatError) -> None:
        """Tell that a load ended."""
        self._emit(
            LoadFailed(
                slot=job.request.slot,
                load_id=job.load_id,
                message=problem.message,
                hint=problem.hint,
                cancelled=job.cancelled.is_set(),
                lacks_memory=problem.lacks_memory,
                ways=problem.ways,
                time_s=time.perf_counter(),
            )
        )
