"""One loaded model at work: requests in, steps on the device, events out.

Runs in the engine thread alone. Owns the life of a sequence from request to Done or Failed;
which step comes next is the scheduler's, how it runs the runner's.
"""

from __future__ import annotations

import secrets
import time
import weakref
from collections.abc import Callable

from quantchat.engine.device_errors import Trouble
from quantchat.engine.memory import free_bytes, give_back, memory_use
from quantchat.engine.metrics import Clock
from quantchat.engine.model import LoadedModel
from quantchat.engine.prompt import prompt_of
from quantchat.engine.recovery import Failure, NoRunner, renewed_runner
from quantchat.engine.runner import Runner
from quantchat.engine.scheduler import DecodeStep, PrefillStep, Scheduler, Step
from quantchat.engine.sequence import Sequence
from quantchat.errors import DeviceLostError, QuantchatError
from quantchat.events import (
    Done,
    Event,
    Failed,
    FinishReason,
    MemoryUse,
    Metrics,
    Notice,
    PrefillProgress,
    Started,
    Stats,
    Token,
)
from quantchat.requests import ChatRequest, Message, Slot

STATS_INTERVAL_S = 0.2


class Runtime:
    """A slot's model with its queue."""

    def __init__(self, slot: Slot, model: LoadedModel, emit: Callable[[Event], None]) -> None:
        self.slot = slot
        self.model = model
        self._emit = emit
        self.spare: Callable[[], bool] = lambda: False
        """Asked for pages that are no answer's, before an answer goes without: whether any came."""
        self._runner: Runner = model.make_runner()
        self._scheduler = self._make_scheduler()
        self._sequences: dict[int, Sequence] = {}
        self._stats_due_s = 0.0
        self._prompt: tuple[tuple[Message, ...], list[int]] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is a step to run."""
        return self._scheduler.busy

    def submit(self, request_id: int, request: ChatRequest, submitted_s: float) -> None:
        """Queue a request: template, context policy, seed. Failures become Failed."""
        clock = Clock(submitted_s=submitted_s, dequeued_s=time.perf_counter())
        try:
            prompt = prompt_of(
                self.model,
                request.messages,
                prefix_ids=request.prefix_ids,
                continue_last=request.continue_last,
                max_tokens=request.max_tokens,
            )
        except QuantchatError as error:
            self._fail_request(request_id, error, "")
            return
        clock.templated_s = time.perf_counter()
        seed = request.sampling.seed
        sequence = Sequence.create(
            request_id,
            request,
            seed=secrets.randbits(31) if seed is None else seed,
            ids=prompt.ids,
            clock=clock,
            tokenizer=self.model.tokenizer,
        )
        self._sequences[request_id] = sequence
        self._scheduler.add(sequence)
        if prompt.dropped_messages:
            self._emit(
                Notice(
                    request_id=request_id,
                    slot=self.slot,
                    kind="context",
                    message=f"the context of {self.context_tokens} tokens is full: "
                    f"the oldest {prompt.dropped_messages} messages were left out",
                    time_s=time.perf_counter(),
                )
            )

    @property
    def context_tokens(self) -> int:
        """Longest sequence this model can hold here."""
        return self.model.plan.context_tokens

    def cancel(self, request_id: int) -> bool:
        """Mark a request; True where it was one of ours."""
        sequence = self._sequences.get(request_id)
        if sequence is not None:
            sequence.cancelled = True
        return sequence is not None

    def step(self) -> None:
        """One prefill chunk or decode step; a failure ends requests, not the engine.

        Raises DeviceLostError where nothing more can run on the device.
        """
        failure = self._try_step()
        if failure is None:
            return
        trouble = failure.out_of_memory
        if failure.error is not None:
            self._fail_step(failure.step, failure.error)
        elif trouble is not None:
            self._recover_memory(failure.step, trouble)
        else:
            error = failure.error_for(self.model)
            if isinstance(error, DeviceLostError):
                raise error
            self.fail_all(error)

    def _try_step(self) -> Failure | None:
        step: Step | None = None
        try:
            self.model.use_device()
            self._finish_cancelled()
            step = self._scheduler.next_step()
            if isinstance(step, PrefillStep):
                self._prefill(step)
            elif isinstance(step, DecodeStep):
                self._decode(step)
        except Exception as error:
            return Failure.of(error, step)
        return None

    def _recover_memory(self, step: Step | None, trouble: Trouble) -> None:
        """The step's requests end; a failed decode step leaves the runner in doubt."""
        what = "reading the prompt" if isinstance(step, PrefillStep) else "the running answer"
        # Captured graphs of this or another model may be alive: workspaces stay.
        give_back(workspaces=False)
        free = free_bytes(self.model.decoder.ops.device)
        error = self.model.out_of_memory(what, free_bytes=free, asked_bytes=trouble.asked_bytes)
        if isinstance(step, PrefillStep):
            self._fail_step(step, error)
            return
        for sequence in list(self._sequences.values()):
            if step is None or sequence in step.sequences:
                self._fail_sequence(sequence, error)
        self._renew_runner()

    def _fail_step(self, step: Step | None, error: QuantchatError) -> None:
        """End the requests of a step; what the others have computed is whole."""
        sequences = list(self._sequences.values())
        if isinstance(step, PrefillStep):
            sequences = [step.sequence]
        for sequence in sequences:
            self._runner.leave(sequence)
            self._fail_sequence(sequence, error)

    def _fail_sequence(self, sequence: Sequence, error: QuantchatError) -> None:
        sequence.row = -1
        sequence.seen = None
        self._scheduler.finish(sequence)
        self._sequences.pop(sequence.request_id, None)
        self._fail_request(sequence.request_id, error, sequence.text)

    def fail_all(self, error: QuantchatError) -> None:
        """End every request with an error and start over with clean pages."""
        self.abandon(error)
        self.model.reset_pages()
        self._renew_runner()
        self._scheduler = self._make_scheduler()

    def abandon(self, error: QuantchatError) -> None:
        """End every request with an error; the device is not touched."""
        for sequence in list(self._sequences.values()):
            self._fail_request(sequence.request_id, error, sequence.text)
        self._sequences.clear()

    def _renew_runner(self) -> None:
        self._runner = NoRunner()
        self._runner = renewed_runner(self.model)

    def _make_scheduler(self) -> Scheduler:
        # No cycle of references: a model that is given up frees its memory at once.
        me = weakref.proxy(self)
        return Scheduler(
            self.model.pages,
            max_running=self.model.max_rows,
            chunk_tokens=self.model.plan.prefill_chunk_tokens,
            leave=lambda sequence: me._runner.leave(sequence),
            spare=lambda: me.spare(),
        )

    def prompt_ids(self, messages: tuple[Message, ...]) -> list[int]:
        """What the model reads before an answer; remembered, since scores of it come in pieces."""
        if self._prompt is None or self._prompt[0] != messages:
            self._prompt = messages, prompt_of(self.model, messages).ids
        return self._prompt[1]

    def publish_pages(self) -> None:
        """Let scorings find what running answers have computed."""
        self._scheduler.publish()

    def cancel_all(self) -> None:
        """Finish every request as cancelled, for a slot that is emptied."""
        for sequence in list(self._sequences.values()):
            sequence.cancelled = True
        self._finish_cancelled()

    def _prefill(self, step: PrefillStep) -> None:
        sequence = step.sequence
        now_s = time.perf_counter()
        if not sequence.started:
            sequence.started = True
            sequence.clock.prefill_started_s = now_s
            self._emit(
                Started(
                    request_id=sequence.request_id,
                    slot=self.slot,
                    prompt_tokens=sequence.prompt_tokens,
                    cached_tokens=sequence.cached_tokens,
                    context_tokens_max=self.context_tokens,
                    seed=sequence.seed,
                    time_s=now_s,
                )
            )
        self._take_flushed()
        if not self._scheduler.reserve(sequence, step.start + step.count):
            pool = self.model.pool
            missing = -(-(step.start + step.count) // pool.page_tokens) - len(sequence.pages)
            raise self.model.out_of_memory(
                "the prompt's KV cache",
                free_bytes=self.model.pages.idle * pool.page_bytes,
                asked_bytes=missing * pool.page_bytes,
            )
        token = self._runner.prefill(sequence, step.start, step.count)
        sequence.computed = step.start + step.count
        now_s = time.perf_counter()
        self._emit(
            PrefillProgress(
                request_id=sequence.request_id,
                slot=self.slot,
                done_tokens=min(sequence.computed, sequence.prompt_tokens),
                total_tokens=sequence.prompt_tokens,
                time_s=now_s,
            )
        )
        if token is not None:
            if not sequence.clock.prefilled_s:
                sequence.clock.prefilled_s = now_s
            self._scheduler.pages.publish(sequence.pages, sequence.tokens)
            self._take(sequence, token)

    def _decode(self, step: DecodeStep) -> None:
        running = self._scheduler.running
        if self._scheduler.pages.idle < len(step.sequences):
            # A sequence may have to go back to the queue: none of its tokens may be under way.
            self._take_flushed()
        for sequence in step.sequences:
            # Making room for one may have sent another back to the queue.
            if sequence in running and not self._scheduler.reserve(
                sequence, self._runner_length(sequence)
            ):
                self._finish(sequence, "context")
        live = tuple(s for s in step.sequences if s.finish is None and s in running)
        pairs = self._runner.decode(live) if live else self._runner.flush()
        for pair in pairs:
            self._take(*pair)

    def _take_flushed(self) -> None:
        """Take the tokens of the step that is under way, if one is."""
        for pair in self._runner.flush():
            self._take(*pair)

    def _runner_length(self, sequence: Sequence) -> int:
        """Tokens that must have a page for the step about to run, one more where one is ahead."""
        return min(len(sequence.tokens) + self.model.steps_ahead, self.context_tokens)

    def _take(self, sequence: Sequence, token: int) -> None:
        """A token left the model: text, events, and whether the answer ends here."""
        if sequence.finish is not None:
            return
        sequence.computed = len(sequence.tokens)
        if token in self.model.tokenizer.eos_ids:
            self._finish(sequence, "stop")
            return
        now_s = time.perf_counter()
        sequence.tokens.append(token)
        if not sequence.clock.tokens:
            sequence.clock.first_joules = self.model.joules()
        sequence.clock.token(now_s)
        text, stopped = sequence.stops.push(sequence.detokenizer.push(token))
        sequence.text += text
        self._emit(
            Token(
                request_id=sequence.request_id,
                slot=self.slot,
                index=sequence.answer_tokens - 1,
                token_id=token,
                text=text,
                time_s=now_s,
            )
        )
        maximum = sequence.request.max_tokens
        if stopped:
            self._finish(sequence, "stop")
        elif maximum > 0 and sequence.answer_tokens >= maximum:
            self._finish(sequence, "length")
        elif len(sequence.tokens) >= self.context_tokens:
            self._finish(sequence, "context")
        elif now_s >= self._stats_due_s:
            self._stats_due_s = now_s + STATS_INTERVAL_S
            self._emit(
                Stats(
                    request_id=sequence.request_id,
                    slot=self.slot,
                    metrics=self._metrics(sequence),
                    memory=self.memory(),
                    time_s=now_s,
                )
            )

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        sequence.end(reason)
        self._runner.leave(sequence)
        # With the answer's pages: they are given back, though kept, below.
        memory = self.memory()
        self._scheduler.finish(sequence)
        self._sequences.pop(sequence.request_id, None)
        self._emit(
            Done(
                request_id=sequence.request_id,
                slot=self.slot,
                finish_reason=reason,
                text=sequence.text,
                metrics=self._metrics(sequence),
                memory=memory,
                time_s=time.perf_counter(),
            )
        )

    def _finish_cancelled(self) -> None:
        marked = [s for s in self._sequences.values() if s.cancelled]
        if marked:
            self._take_flushed()
        for sequence in marked:
            if sequence.finish is None:
                self._finish(sequence, "cancelled")

    def _fail_request(self, request_id: int, error: QuantchatError, text: str) -> None:
        self._emit(
            Failed(
                request_id=request_id,
                slot=self.slot,
                message=error.message,
                hint=error.hint,
                text=text,
                ways=error.ways,
                time_s=time.perf_counter(),
            )
        )

    def _metrics(self, sequence: Sequence) -> Metrics:
        return sequence.clock.metrics(
            now_s=time.perf_counter(),
            prompt_tokens=sequence.prompt_tokens,
            cached_tokens=sequence.cached_tokens,
            context_tokens=len(sequence.tokens),
            context_tokens_max=self.context_tokens,
            read_bytes_per_token=self.model.read_bytes(len(sequence.tokens)),
            joules=self.model.joules(),
        )

    def memory(self) -> MemoryUse:
        """What this model and process hold now."""
        return memory_use(self.model)
