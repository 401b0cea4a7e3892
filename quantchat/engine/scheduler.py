"""Which sequence runs next: policy over sequences and pages, no tensors.

One prefill chunk at a time, alternating with decode steps of all that run, so that a long prompt
does not stop other answers. Sequences join when their prompt's pages are there; when pages run
out the youngest other one goes back to the queue and computes its tokens again later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from quantchat.engine.pages import PageAllocator
from quantchat.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class PrefillStep:
    """Compute `count` tokens of a sequence from `start` on."""

    sequence: Sequence
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """Compute the newest token of each sequence."""

    sequences: tuple[Sequence, ...]


Step: TypeAlias = PrefillStep | DecodeStep


class Scheduler:
    """The queue, the running sequences and their pages."""

    def __init__(
        self,
        pages: PageAllocator,
        *,
        max_running: int,
        chunk_tokens: int,
        leave: Callable[[Sequence], None],
        spare: Callable[[], bool] = lambda: False,
    ) -> None:
        """`leave` tells the runner that a sequence goes back to the queue; no step is under way.

        `spare` is asked for pages that are no answer's, before an answer has to wait or go back:
        whether any came.
        """
        self.pages = pages
        self._leave = leave
        self._spare = spare
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._max_running = max_running
        self._chunk_tokens = chunk_tokens
        self._prefilled_last = False

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self.waiting.append(sequence)

    @property
    def busy(self) -> bool:
        """Whether anything is queued or running."""
        return bool(self.waiting or self.running)

    def next_step(self) -> Step | None:
        """What to compute now; None where nothing can be."""
        self._admit()
        prefilling = next((s for s in self.running if s.prefilling), None)
        decoding = tuple(s for s in self.running if not s.prefilling)
        if prefilling is not None and not (decoding and self._prefilled_last):
            self._prefilled_last = True
            start = prefilling.computed
            count = min(self._chunk_tokens, len(prefilling.tokens) - start)
            return PrefillStep(prefilling, start, count)
        self._prefilled_last = False
        return DecodeStep(decoding) if decoding else None

    def reserve(self, sequence: Sequence, tokens: int) -> bool:
        """Give the sequence pages for `tokens` tokens; False when even preemption finds none."""
        while len(sequence.pages) * self.pages.page_tokens < tokens:
            page = self.pages.take(sequence.pages[-1] if sequence.pages else None)
            if page is None:
                if not (self._spare() or self._preempt(sequence)):
                    return False
                continue
            sequence.pages.append(page)
        return True

    def publish(self) -> None:
        """Let others find what the running sequences have computed."""
        for sequence in self.running:
            self.pages.publish(sequence.pages, sequence.tokens[: sequence.computed])

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out and let its pages be found again."""
        if sequence in self.running:
            self.running.remove(sequence)
        if sequence in self.waiting:
            self.waiting.remove(sequence)
        self._let_go(sequence)

    def _let_go(self, sequence: Sequence) -> None:
        self.pages.publish(sequence.pages, sequence.tokens[: sequence.computed])
        self.pages.release(sequence.pages)
        sequence.pages = []

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self._max_running:
            sequence = self.waiting[0]
            known = self.pages.match(sequence.tokens[:-1])
            sequence.pages = known
            sequence.computed = len(known) * self.pages.page_tokens
            if not sequence.started:
                sequence.cached_tokens = sequence.computed
            missing = -(-len(sequence.tokens) // self.pages.page_tokens) - len(known)
            if missing > self.pages.idle and self.running:
                self.pages.release(known)
                sequence.pages = []
                if self._spare():
                    continue
                return
            self.waiting.popleft()
            self.running.append(sequence)

    def _preempt(self, keep: Sequence) -> bool:
        for sequence in reversed(self.running):
            if sequence is not keep:
                self._leave(sequence)
                self.running.remove(sequence)
                self._let_go(sequence)
                sequence.computed = 0
                self.waiting.appendleft(sequence)
                return True
        return False
