"""Score requests in line, beside answers: who is at work and when.

Answers go first: while one is written, scoring takes small units and at most a share of the time,
and gives its pages up where an answer needs them. Exact scorings, whose chunks are the plan's own,
wait until no answer is written. A scoring that fails ends alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

import torch

from quantchat.engine.kept_scores import KeptScores
from quantchat.engine.memory import free_bytes, give_back
from quantchat.engine.recovery import Failure
from quantchat.engine.runtime import Runtime
from quantchat.engine.scoring import Scoring, Unit
from quantchat.errors import DeviceLostError, EngineError, QuantchatError
from quantchat.events import Event, Failed, Scored, TokenScore
from quantchat.requests import ScoreRequest, Slot

BESIDE = Unit(card_tokens=256, cpu_tokens=32)
"""While an answer is written."""
ALONE = Unit(card_tokens=2048, cpu_tokens=64)
"""An answer that begins waits for one of these at most."""
ANSWERS_SHARE = 2.0
"""Time that answers have between two units, in times of what the last one took."""
PAGES_PAUSE_S = 0.1
"""Until pages are asked for again that an answer holds."""


class Scorings:
    """The line, and the log-probabilities that are kept of the last one without a base."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._line: deque[Scoring] = deque()
        self._kept: KeptScores | None = None
        self._not_before_s = 0.0

    @property
    def busy(self) -> bool:
        """Whether any is left."""
        return bool(self._line)

    def add(self, request_id: int, request: ScoreRequest) -> None:
        """Queue a request."""
        self._line.append(Scoring(request_id, request))

    def cancel(self, request_id: int) -> None:
        """End a request with a last Scored, if it is one of these."""
        for scoring in self._line:
            if scoring.request_id == request_id:
                self._take_out(scoring)
                self._say(scoring, scoring.at, (), done=True)
                return

    def drop(self, slot: Slot, problem: QuantchatError) -> None:
        """The slot's model goes: what needs it fails."""
        for scoring in [each for each in self._line if slot in each.slots]:
            self._fail(scoring, problem)

    def give_pages(self, slot: Slot) -> bool:
        """An answer needs pages of the slot: whether any were given back."""
        given = [scoring.give_back(slot) for scoring in self._line]
        return any(given)

    def step(self, runtimes: Mapping[Slot, Runtime]) -> None:
        """A unit of work, where it is time for one; raises DeviceLostError."""
        answering = any(runtime.busy for runtime in runtimes.values())
        began_s = time.perf_counter()
        if answering and began_s < self._not_before_s:
            return
        scoring = next((s for s in self._line if not (answering and s.request.exact)), None)
        if scoring is None:
            return
        failure = self._try(scoring, runtimes, BESIDE if answering else ALONE)
        if failure is not None:
            self._recover(scoring, failure, runtimes)
        if answering:
            ended_s = time.perf_counter()
            pause_s = ANSWERS_SHARE * (ended_s - began_s)
            self._not_before_s = max(self._not_before_s, ended_s + pause_s)

    def _try(
        self, scoring: Scoring, runtimes: Mapping[Slot, Runtime], unit: Unit
    ) -> Failure | None:
        try:
            if not scoring.begun:
                if not (scoring.request.base or scoring.request.kept):
                    self._kept = None
                scoring.begin(runtimes, self._kept)
            elif scoring.computed:
                self._score(scoring, runtimes, unit)
            elif scoring.step(runtimes, unit) == "no pages":
                self._await_pages(scoring, runtimes)
            self._finish_work(scoring, runtimes)
        except Exception as error:
            return Failure.of(error, None)
        return None

    def _score(self, scoring: Scoring, runtimes: Mapping[Slot, Runtime], unit: Unit) -> None:
        first = scoring.at
        scores = scoring.score(runtimes, unit)
        if scoring.done:
            self._kept = scoring.keeps or self._kept
            self._take_out(scoring)
        self._say(scoring, first, scores, done=scoring.done)

    def _await_pages(self, scoring: Scoring, runtimes: Mapping[Slot, Runtime]) -> None:
        """Pages come from other scorings, else with the end of an answer, else not at all."""
        slot = scoring.at_work
        others = [each.give_back(slot) for each in self._line if each is not scoring]
        if any(others):
            return
        runtime = runtimes[slot]
        if not runtime.busy:
            model = runtime.model
            raise EngineError(
                f"the KV cache of {model.info.model} {model.info.scheme} has no room for the "
                "answer to be scored",
                hint="load the model with a longer context",
            )
        self._not_before_s = time.perf_counter() + PAGES_PAUSE_S

    def _finish_work(self, scoring: Scoring, runtimes: Mapping[Slot, Runtime]) -> None:
        """Wait for the card, so that the time counts and failures show here."""
        runtime = runtimes.get(scoring.at_work)
        if runtime is not None and runtime.model.plan.device == "cuda":
            torch.cuda.current_stream().synchronize()

    def _recover(
        self, scoring: Scoring, failure: Failure, runtimes: Mapping[Slot, Runtime]
    ) -> None:
        if failure.error is not None:
            self._fail(scoring, failure.error)
            return
        model = runtimes[scoring.at_work].model
        trouble = failure.out_of_memory
        if trouble is None:
            error = failure.error_for(model)
            self._fail(scoring, error)
            if isinstance(error, DeviceLostError):
                raise error
            return
        # The scoring's own tensors go first.
        self._take_out(scoring)
        give_back(workspaces=False)
        free = free_bytes(model.decoder.ops.device)
        problem = model.out_of_memory(
            "scoring an answer", free_bytes=free, asked_bytes=trouble.asked_bytes
        )
        self._fail(scoring, problem)

    def _take_out(self, scoring: Scoring) -> None:
        scoring.end()
        if scoring in self._line:
            self._line.remove(scoring)

    def _fail(self, scoring: Scoring, problem: QuantchatError) -> None:
        self._take_out(scoring)
        self._emit(
            Failed(
                request_id=scoring.request_id,
                slot=scoring.request.slot,
                message=problem.message,
                hint=problem.hint,
                text="",
                ways=problem.ways,
                time_s=time.perf_counter(),
            )
        )

    def _say(
        self, scoring: Scoring, first: int, scores: tuple[TokenScore, ...], *, done: bool
    ) -> None:
        self._emit(
            Scored(
                request_id=scoring.request_id,
                slot=scoring.request.slot,
                first=first,
                scores=scores,
                exact=scoring.request.exact,
                done=done,
                time_s=time.perf_counter(),
            )
        )
