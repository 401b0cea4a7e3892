"""The engine: one thread that owns the device, a queue in, frozen events out.

Importing this loads no torch; the thread does, and says so. Loads run in threads of their own and
hand the finished model over, so that the old one answers meanwhile.
"""

from __future__ import annotations

import itertools
import logging
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantchat.errors import QuantchatError
from quantchat.events import (
    EngineStopped,
    Event,
    Failed,
    Loaded,
    LoadFailed,
    LoadPhase,
    LoadProgress,
    Unloaded,
)
from quantchat.requests import ChatRequest, LoadRequest, Slot

if TYPE_CHECKING:
    from quantchat.engine.loading import SharedDecoders
    from quantchat.engine.model import LoadedModel
    from quantchat.engine.runtime import Runtime

logger = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 0.05
SWITCH_INTERVAL_S = 1e-4
"""Longest that another thread keeps the interpreter while the engine wants it. A decode step on the
CPU is hundreds of ops of tens of microseconds; Python's 5 ms would hold it up at each redraw."""


@dataclass(frozen=True, slots=True)
class _Load:
    load_id: int
    request: LoadRequest
    cancelled: threading.Event


@dataclass(frozen=True, slots=True)
class _Install:
    load: _Load
    model: LoadedModel


@dataclass(frozen=True, slots=True)
class _Unload:
    slot: Slot


@dataclass(frozen=True, slots=True)
class _Chat:
    request_id: int
    request: ChatRequest
    submitted_s: float


@dataclass(frozen=True, slots=True)
class _Cancel:
    request_id: int


@dataclass(frozen=True, slots=True)
class _Close:
    pass


_Command = _Install | _Unload | _Chat | _Cancel | _Close


class Session:
    """Implements `quantchat.engine.api.Engine`."""

    def __init__(self) -> None:
        self._commands: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._events: deque[Event] = deque()
        self._arrived = threading.Condition()
        self._ids = itertools.count(1)
        self._loads: dict[Slot, _Load] = {}
        self._loads_lock = threading.Lock()
        self._shared: SharedDecoders | None = None
        self._runtimes: dict[Slot, Runtime] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def load(self, request: LoadRequest) -> int:
        """See Engine.load; a newer load of the same slot replaces one that is under way."""
        load = _Load(next(self._ids), request, threading.Event())
        with self._loads_lock:
            earlier = self._loads.get(request.slot)
            if earlier is not None:
                earlier.cancelled.set()
            self._loads[request.slot] = load
        threading.Thread(
            target=self._run_load, args=(load,), name=f"load-{load.load_id}", daemon=True
        ).start()
        return load.load_id

    def cancel_load(self, slot: Slot) -> None:
        """See Engine.cancel_load."""
        with self._loads_lock:
            load = self._loads.get(slot)
        if load is not None:
            load.cancelled.set()

    def unload(self, slot: Slot) -> None:
        """See Engine.unload; a load under way for the slot is given up."""
        self.cancel_load(slot)
        self._commands.put(_Unload(slot))

    def chat(self, request: ChatRequest) -> int:
        """See Engine.chat."""
        request_id = next(self._ids)
        self._commands.put(_Chat(request_id, request, time.perf_counter()))
        return request_id

    def cancel(self, request_id: int) -> None:
        """See Engine.cancel."""
        self._commands.put(_Cancel(request_id))

    def drain(self) -> list[Event]:
        """See Engine.drain."""
        with self._arrived:
            events = list(self._events)
            self._events.clear()
        return events

    def wait(self, timeout_s: float) -> list[Event]:
        """See Engine.wait."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._events, timeout_s)
        return self.drain()

    def close(self) -> None:
        """See Engine.close."""
        with self._loads_lock:
            for load in self._loads.values():
                load.cancelled.set()
        self._commands.put(_Close())
        self._thread.join(timeout=10)

    def _emit(self, event: Event) -> None:
        with self._arrived:
            self._events.append(event)
            self._arrived.notify_all()

    def _run(self) -> None:
        message, hint = "", ""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        try:
            self._serve()
        except QuantchatError as error:
            message, hint = error.message, error.hint
        except Exception as error:
            logger.exception("the engine thread ended")
            message = f"the engine stopped: {type(error).__name__}: {error}"
            hint = "see the log, and start the app again"
        self._runtimes.clear()
        self._emit(EngineStopped(message=message, hint=hint, time_s=time.perf_counter()))

    def _serve(self) -> None:
        import torch

        with torch.inference_mode():
            while True:
                busy = [runtime for runtime in self._runtimes.values() if runtime.busy]
                for command in self._take_commands(block=not busy):
                    if isinstance(command, _Close):
                        return
                    self._obey(command)
                for runtime in busy:
                    if runtime.slot in self._runtimes:
                        runtime.step()

    def _take_commands(self, *, block: bool) -> list[_Command]:
        commands: list[_Command] = [self._commands.get()] if block else []
        while True:
            try:
                commands.append(self._commands.get_nowait())
            except queue.Empty:
                return commands

    def _obey(self, command: _Command) -> None:
        if isinstance(command, _Chat):
            runtime = self._runtimes.get(command.request.slot)
            if runtime is None:
                self._emit(
                    Failed(
                        request_id=command.request_id,
                        slot=command.request.slot,
                        message="no model is loaded",
                        hint="choose one in the model picker",
                        text="",
                        time_s=time.perf_counter(),
                    )
                )
            else:
                runtime.submit(command.request_id, command.request, command.submitted_s)
        elif isinstance(command, _Cancel):
            for runtime in self._runtimes.values():
                if runtime.cancel(command.request_id):
                    break
        elif isinstance(command, _Install):
            self._install(command)
        elif isinstance(command, _Unload):
            self._empty(command.slot)
            self._emit(Unloaded(slot=command.slot, time_s=time.perf_counter()))

    def _install(self, command: _Install) -> None:
        from quantchat.engine.runtime import Runtime

        load, slot = command.load, command.load.request.slot
        if load.cancelled.is_set():
            self._load_failed(load, "loading was stopped", "", cancelled=True)
            return
        self._empty(slot)
        runtime = Runtime(slot, command.model, self._emit)
        self._runtimes[slot] = runtime
        self._emit(
            Loaded(
                slot=slot,
                load_id=load.load_id,
                info=command.model.info,
                memory=runtime.memory(),
                time_s=time.perf_counter(),
            )
        )

    def _empty(self, slot: Slot) -> None:
        """Finish the slot's answers as cancelled and give its memory back."""
        import gc

        import torch

        runtime = self._runtimes.pop(slot, None)
        if runtime is None:
            return
        runtime.cancel_all()
        del runtime
        gc.collect()
        if torch.cuda.is_available():
            # cuBLAS workspaces are tens of MiB that no tensor refers to.
            torch._C._cuda_clearCublasWorkspaces()
            torch.cuda.empty_cache()

    def _run_load(self, load: _Load) -> None:
        report = self._reporter(load)
        try:
            report("import", 0, 0, "torch")
            from quantchat.engine.loading import SharedDecoders, load_model

            with self._loads_lock:
                if self._shared is None:
                    self._shared = SharedDecoders.empty()
            model = load_model(load.request, report, load.cancelled.is_set, self._shared)
            self._commands.put(_Install(load, model))
        except QuantchatError as error:
            self._load_failed(load, error.message, error.hint, cancelled=load.cancelled.is_set())
        except Exception as error:
            logger.exception("loading %s failed", load.request.model)
            self._load_failed(
                load,
                f"loading failed: {type(error).__name__}: {str(error)[:200]}",
                "see the log",
                cancelled=load.cancelled.is_set(),
            )

    def _reporter(self, load: _Load) -> Callable[[LoadPhase, int, int, str], None]:
        last_s, last_phase = 0.0, ""

        def report(phase: LoadPhase, done: int, total: int, detail: str) -> None:
            nonlocal last_s, last_phase
            now_s = time.perf_counter()
            if phase == last_phase and done != total and now_s - last_s < PROGRESS_INTERVAL_S:
                return
            last_s, last_phase = now_s, phase
            self._emit(
                LoadProgress(
                    slot=load.request.slot,
                    load_id=load.load_id,
                    phase=phase,
                    done=done,
                    total=total,
                    detail=detail,
                    time_s=now_s,
                )
            )

        return report

    def _load_failed(self, load: _Load, message: str, hint: str, *, cancelled: bool) -> None:
        self._emit(
            LoadFailed(
                slot=load.request.slot,
                load_id=load.load_id,
                message=message,
                hint=hint,
                cancelled=cancelled,
                time_s=time.perf_counter(),
            )
        )
