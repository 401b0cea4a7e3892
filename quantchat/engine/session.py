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
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

from quantchat.engine.commands import (
    Cancel,
    Chat,
    Close,
    Command,
    Install,
    Lost,
    MakeRoom,
    Score,
    Unload,
)
from quantchat.engine.device_errors import first_line, forget_frames
from quantchat.engine.event_queue import EventQueue
from quantchat.engine.loads import Loads
from quantchat.errors import Cancelled, DeviceLostError, EngineError, QuantchatError
from quantchat.events import EngineStopped, Event, Failed, Loaded, Unloaded
from quantchat.requests import ChatRequest, LoadRequest, ScoreRequest, Slot

if TYPE_CHECKING:
    from quantchat.engine.runtime import Runtime
    from quantchat.engine.scorings import Scorings

logger = logging.getLogger(__name__)

CLOSE_S = 10.0
SWITCH_INTERVAL_S = 1e-4
"""Longest that another thread keeps the interpreter while the engine wants it. A decode step on the
CPU is hundreds of ops of tens of microseconds; Python's 5 ms would hold it up at each redraw."""
COMPUTED_ANEW = (
    "context: computed anew with the next answer; the cache of the earlier weights or KV precision is "
    "not converted"
)
"""What a switch says of the conversation so far."""
SCORER_GONE = "the model was unloaded while it scored"
SCORER_GONE_HINT = "score the answer again when one is loaded"


class Session:
    """Implements `quantchat.engine.api.Engine`."""

    def __init__(self) -> None:
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._events = EventQueue()
        self._emit = self._events.put
        self._ids = itertools.count(1)
        self._runtimes: dict[Slot, Runtime] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loads = Loads(
            ids=self._ids,
            emit=self._emit,
            put=self._commands.put,
            runtimes=self._runtimes,
            alive=self._thread.is_alive,
        )
        self._scorings: Scorings | None = None
        """Made when torch is there."""
        self._patient: list[Install | MakeRoom] = []
        """What empties a slot, waiting for its answers to end."""
        self._thread.start()

    def load(self, request: LoadRequest) -> int:
        """See Engine.load; a newer load of the same slot replaces one that is under way."""
        return self._loads.start(request)

    def cancel_load(self, slot: Slot) -> None:
        """See Engine.cancel_load."""
        self._loads.cancel(slot)

    def unload(self, slot: Slot) -> None:
        """See Engine.unload; a load under way for the slot is given up."""
        self.cancel_load(slot)
        self._commands.put(Unload(slot))

    def chat(self, request: ChatRequest) -> int:
        """See Engine.chat."""
        request_id = next(self._ids)
        self._commands.put(Chat(request_id, request, time.perf_counter()))
        return request_id

    def score(self, request: ScoreRequest) -> int:
        """See Engine.score."""
        request_id = next(self._ids)
        self._commands.put(Score(request_id, request))
        return request_id

    def cancel(self, request_id: int) -> None:
        """See Engine.cancel."""
        self._commands.put(Cancel(request_id))

    def drain(self) -> list[Event]:
        """See Engine.drain."""
        return self._events.drain()

    def wait(self, timeout_s: float) -> list[Event]:
        """See Engine.wait."""
        return self._events.wait(timeout_s)

    def close(self) -> None:
        """See Engine.close."""
        self._loads.cancel_all()
        self._commands.put(Close())
        self._thread.join(CLOSE_S)
        self._loads.join(CLOSE_S)

    def _run(self) -> None:
        message, hint = "", ""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        try:
            self._serve()
        except QuantchatError as error:
            message, hint = error.message, error.hint
        except BaseException as error:
            logger.exception("the engine thread ended")
            reason = f"{type(error).__name__}: {error}".removesuffix(": ")
            message = f"the engine stopped: {reason}"
            hint = "see the log; a fresh engine can be started"
        self._runtimes.clear()
        self._patient.clear()
        self._scorings = None
        self._emit(EngineStopped(message=message, hint=hint, time_s=time.perf_counter()))

    def _serve(self) -> None:
        import torch

        self._loads.torch_ready.set()
        from quantchat.engine.scorings import Scorings

        self._scorings = Scorings(self._emit)
        with torch.inference_mode():
            while self._turn():
                pass

    def _turn(self) -> bool:
        """Obey what has come, then one step of each model; False when it is time to close.

        No name here may outlive the call: it would hold a model that is given up.
        """
        self._let_in()
        scoring = self._scorings is not None and self._scorings.busy
        busy = scoring or any(runtime.busy for runtime in self._runtimes.values())
        for command in self._take_commands(block=not busy):
            if isinstance(command, Close):
                return False
            self._obey(command)
        for slot in list(self._runtimes):
            if slot in self._runtimes and self._runtimes[slot].busy:
                self._step(slot)
        if self._scorings is not None and self._scorings.busy:
            self._score(self._scorings)
        return True

    def _score(self, scorings: Scorings) -> None:
        try:
            scorings.step(self._runtimes)
        except DeviceLostError as problem:
            self._lose_device(problem)

    def _step(self, slot: Slot) -> None:
        problem: QuantchatError
        try:
            self._runtimes[slot].step()
            return
        except DeviceLostError as error:
            problem = error
        except Exception as error:
            logger.exception("the model in slot %s cannot go on", slot)
            problem = EngineError(
                f"the model stopped: {type(error).__name__}: {first_line(str(error))}",
                hint="load it again (see the log)",
            )
            forget_frames(error)
        if isinstance(problem, DeviceLostError):
            self._lose_device(problem)
        else:
            self._give_up(slot, problem)

    def _take_commands(self, *, block: bool) -> list[Command]:
        commands: list[Command] = [self._commands.get()] if block else []
        while True:
            try:
                commands.append(self._commands.get_nowait())
            except queue.Empty:
                return commands

    def _obey(self, command: Command) -> None:
        if isinstance(command, Chat):
            runtime = self._runtimes.get(command.request.slot)
            if runtime is None:
                self._refuse(command)
            else:
                runtime.submit(command.request_id, command.request, command.submitted_s)
        elif isinstance(command, Score):
            assert self._scorings is not None
            self._scorings.add(command.request_id, command.request)
        elif isinstance(command, Cancel):
            self._cancel(command.request_id)
        elif isinstance(command, (Install, MakeRoom)):
            if self._answering(command):
                command.job.report("wait", 0, 0, "")
            self._patient.append(command)
            self._let_in()
        elif isinstance(command, Unload):
            self._empty(command.slot)
            self._emit(Unloaded(slot=command.slot, time_s=time.perf_counter()))
        elif isinstance(command, Lost):
            self._lose_device(command.problem)

    def _answering(self, command: Install | MakeRoom) -> bool:
        """Whether the slot's model still writes, and is not to make way at once."""
        runtime = self._runtimes.get(command.job.request.slot)
        return runtime is not None and runtime.busy and not command.job.cancelled.is_set()

    def _let_in(self) -> None:
        """Models whose slot has no answer under way any more."""
        for command in [each for each in self._patient if not self._answering(each)]:
            self._patient.remove(command)
            if isinstance(command, Install):
                self._install(command)
            else:
                slot = command.job.request.slot
                command.job.emptied = self._empty(slot)
                if command.job.emptied:
                    self._emit(Unloaded(slot=slot, time_s=time.perf_counter()))
                command.done.set()

    def _cancel(self, request_id: int) -> None:
        if not any(runtime.cancel(request_id) for runtime in self._runtimes.values()):
            assert self._scorings is not None
            self._scorings.cancel(request_id)

    def _refuse(self, command: Chat) -> None:
        lost = self._loads.device_lost
        self._emit(
            Failed(
                request_id=command.request_id,
                slot=command.request.slot,
                message="no model is loaded"
                if lost is None
                else f"no model is loaded: {lost.message}",
                hint="choose one in the model picker" if lost is None else lost.hint,
                text="",
                ways=() if lost is None else lost.ways,
                time_s=time.perf_counter(),
            )
        )

    def _install(self, command: Install) -> None:
        from quantchat.engine.load_errors import load_problem
        from quantchat.engine.memory import leave_capture
        from quantchat.engine.opening import open_model

        job, model = command.job, command.model.pop()
        slot = job.request.slot
        problem: QuantchatError
        if job.cancelled.is_set():
            problem = Cancelled("loading was stopped")
        else:
            try:
                # Before the old one goes: a failure here leaves it as it is.
                runtime = open_model(job, model, self._emit)
            except Exception as error:
                problem = load_problem(error, job.request)
                leave_capture()
            else:
                if self._empty(slot, follows=True) or job.emptied:
                    reasons = (*model.info.reasons, COMPUTED_ANEW)
                    model.info = replace(model.info, reasons=reasons)
                self._seat(slot, runtime)
                self._emit(
                    Loaded(
                        slot=slot,
                        load_id=job.load_id,
                        info=model.info,
                        memory=runtime.memory(),
                        phases=job.phases(),
                        time_s=time.perf_counter(),
                    )
                )
                return
        del model
        self._give_back()
        self._loads.failed(job, problem)

    def _seat(self, slot: Slot, runtime: Runtime) -> None:
        """Give the slot its model; pages that scorings hold of it are there for answers."""
        scorings = self._scorings
        assert scorings is not None
        runtime.spare = lambda: scorings.give_pages(slot)
        self._runtimes[slot] = runtime

    def _empty(self, slot: Slot, *, follows: bool = False) -> bool:
        """Finish the slot's answers as cancelled and give its memory back; False if it is empty.

        `follows`: the slot's next model is there, with its graphs.
        """
        runtime = self._runtimes.pop(slot, None)
        if runtime is None:
            return False
        assert self._scorings is not None
        self._scorings.drop(slot, EngineError(SCORER_GONE, hint=SCORER_GONE_HINT))
        try:
            runtime.cancel_all()
        except Exception as error:
            logger.exception("the answers in slot %s cannot be finished", slot)
            reason = f"{type(error).__name__}: {first_line(str(error))}"
            runtime.abandon(EngineError(f"the model stopped: {reason}"))
            forget_frames(error)
        held = weakref.ref(runtime.model)
        del runtime
        self._give_back(collect=held() is not None, graphs=follows)
        return True

    def _give_up(self, slot: Slot, problem: QuantchatError) -> None:
        """End a slot's answers with an error; nothing is asked of its device."""
        runtime = self._runtimes.pop(slot)
        assert self._scorings is not None
        self._scorings.drop(slot, problem)
        runtime.abandon(problem)
        del runtime
        self._give_back()
        self._emit(Unloaded(slot=slot, time_s=time.perf_counter()))

    def _lose_device(self, problem: DeviceLostError) -> None:
        """The card's context is dead: its models go, those on the CPU stay."""
        logger.error("%s", problem)
        self._loads.device_lost = problem
        on_card = [s for s, each in self._runtimes.items() if each.model.plan.device == "cuda"]
        for slot in on_card:
            self._give_up(slot, problem)

    def _give_back(self, *, collect: bool = True, graphs: bool = False) -> None:
        """`graphs`: there are some of a model that is in no slot yet."""
        from quantchat.engine.memory import give_back

        give_back(workspaces=not (graphs or self._runtimes), collect=collect)
