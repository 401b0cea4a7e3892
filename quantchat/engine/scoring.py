"""One score request under way: both models' passes, then scores slice by slice.

Runs in the engine thread, a small unit at a time. Which request is at work, and how it shares the
time with answers, is `scorings`'; a model's pass is `score_track`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from quantchat.engine.kept_scores import KeptScores
from quantchat.engine.model import LoadedModel
from quantchat.engine.prompt import check_ids
from quantchat.engine.runtime import Runtime
from quantchat.engine.score_rows import token_scores
from quantchat.engine.score_track import Track
from quantchat.errors import EngineError
from quantchat.events import TokenScore
from quantchat.model.logprobs import SLICE_ELEMENTS, log_softmax
from quantchat.requests import ScoreRequest, Slot

Outcome: TypeAlias = Literal["worked", "no pages"]


@dataclass(frozen=True, slots=True)
class Unit:
    """How much may be done at once."""

    card_tokens: int
    cpu_tokens: int

    def tokens(self, model: LoadedModel) -> int:
        """Rows of a chunk or a slice; the plan's chunk is the most."""
        most = self.cpu_tokens if model.plan.device == "cpu" else self.card_tokens
        return min(most, model.plan.prefill_chunk_tokens)


class Scoring:
    """From a request to its last score."""

    def __init__(self, request_id: int, request: ScoreRequest) -> None:
        self.request_id = request_id
        self.request = request
        self.at = request.first
        """The next token to be scored."""
        self.at_work: Slot = request.slot
        """The slot whose model the last unit was run on."""
        self.keeps: KeptScores | None = None
        """What is filled where there is nothing to be held against."""
        self._kept: KeptScores | None = None
        self._own: Track | None = None
        self._base: Track | None = None

    @property
    def slots(self) -> frozenset[Slot]:
        """Slots whose models it needs."""
        return frozenset(slot for slot in (self.request.slot, self.request.base) if slot)

    @property
    def done(self) -> bool:
        """Whether all tokens are scored."""
        return self.at >= len(self.request.answer_ids)

    @property
    def begun(self) -> bool:
        """Whether prompts and tracks are there."""
        return self._own is not None

    def begin(self, runtimes: Mapping[Slot, Runtime], kept: KeptScores | None) -> None:
        """Check the request against the models; raises EngineError with what is wrong."""
        request = self.request
        if not 0 <= request.first < len(request.answer_ids):
            raise EngineError("there are no tokens to score", hint="let the model answer first")
        if request.kept and request.base:
            raise EngineError("a model is held against one other, not against two")
        model = self._model(runtimes, request.slot)
        if request.kept:
            if kept is None or kept.request_id != request.kept:
                raise EngineError(
                    "what was kept of the first model is not there any more",
                    hint="score the answer with the first model again",
                )
            kept.check(request)
            self._same_words(model, kept.vocabulary, kept.pieces)
            self._kept = kept
        elif request.base:
            base = self._model(runtimes, request.base)
            tokenizer = base.tokenizer
            self._same_words(model, tokenizer.vocabulary_digest, tokenizer.vocab_size)
            self._base = self._track(runtimes[request.base])
        else:
            self.keeps = KeptScores.room_for(self.request_id, request, model)
        self._own = self._track(runtimes[request.slot])

    def step(self, runtimes: Mapping[Slot, Runtime], unit: Unit) -> Outcome:
        """A chunk of one model; "no pages" where its cache has none free now."""
        for slot, track in ((self.request.base, self._base), (self.request.slot, self._own)):
            if track is not None and not track.done:
                model = self._at(runtimes, slot)
                count = model.plan.prefill_chunk_tokens
                if not self.request.exact:
                    count = unit.tokens(model)
                return "worked" if track.step(model, count) else "no pages"
        raise AssertionError("every row is there: score() is next")

    @property
    def computed(self) -> bool:
        """Whether both models' passes are over, so that `score` may be called."""
        tracks = [track for track in (self._own, self._base) if track is not None]
        return bool(tracks) and all(track.done for track in tracks)

    def score(self, runtimes: Mapping[Slot, Runtime], unit: Unit) -> tuple[TokenScore, ...]:
        """Scores of the next slice of tokens."""
        assert self._own is not None
        model = self._at(runtimes, self.request.slot)
        vocab = model.decoder.spec.vocab
        count = max(1, SLICE_ELEMENTS // vocab)
        if not self.request.exact:
            count = min(count, unit.tokens(model))
        start, stop = self.at, min(self.at + count, len(self.request.answer_ids))
        own = self._log_probs(self._own, start, stop)
        base = self._base_rows(runtimes, own.device, start, stop)
        if self.keeps is not None:
            self.keeps.rows(start, stop).copy_(own)
        if base is not None and base.shape[1] != own.shape[1]:
            # Rows past the tokenizer's pieces pad the head; models of a family differ in them.
            pieces = min(base.shape[1], own.shape[1], model.tokenizer.vocab_size)
            base, own = (log_softmax(rows[:, :pieces]) for rows in (base, own))
        self.at_work = self.request.slot
        scores = token_scores(own, base, self.request.answer_ids[start:stop], model.tokenizer.shown)
        self.at = stop
        return scores

    def give_back(self, slot: Slot) -> bool:
        """Let go of the pages in a slot; True where there were any."""
        given = False
        for name, track in ((self.request.base, self._base), (self.request.slot, self._own)):
            if track is not None and name == slot and track.holds_pages:
                track.give_back()
                given = True
        return given

    def end(self) -> None:
        """Let go of pages and tensors."""
        for track in (self._base, self._own):
            if track is not None:
                track.give_back()
        self._base = self._own = self._kept = self.keeps = None

    def _track(self, runtime: Runtime) -> Track:
        model, request = runtime.model, self.request
        check_ids(model, request.answer_ids)
        prompt = runtime.prompt_ids(request.messages)
        ids = [*prompt, *request.answer_ids]
        if not prompt or len(ids) > runtime.context_tokens:
            raise EngineError(
                f"the conversation and its answer are {len(ids)} tokens, the context of "
                f"{model.info.model} {model.info.scheme} has {runtime.context_tokens}",
                hint="load the model with a longer context",
            )
        if not request.exact:
            # What an answer has computed so far need not be computed again.
            runtime.publish_pages()
        return Track(model, ids, len(prompt) + request.first - 1, exact=request.exact)

    def _log_probs(self, track: Track, start: int, stop: int) -> torch.Tensor:
        """float32 [R, V] of a track's decoder for tokens start .. stop."""
        first = self.request.first
        rows = track.hidden()[start - first : stop - first]
        assert self._own is not None
        # The number of rows decides what multiplies on a processor; evaluations leave it so.
        track.decoder.ops.begin(self._own.last_chunk_rows if self.request.exact else rows.shape[0])
        return log_softmax(track.decoder.logits(rows))

    def _base_rows(
        self, runtimes: Mapping[Slot, Runtime], device: torch.device, start: int, stop: int
    ) -> torch.Tensor | None:
        if self._kept is not None:
            return self._kept.rows(start, stop).to(device)
        if self._base is None:
            return None
        self._at(runtimes, self.request.base)
        rows = self._log_probs(self._base, start, stop)
        self._at(runtimes, self.request.slot)
        return rows.to(device)

    def _at(self, runtimes: Mapping[Slot, Runtime], slot: Slot) -> LoadedModel:
        """The model of a slot, its device made the thread's."""
        self.at_work = slot
        model = runtimes[slot].model
        model.use_device()
        if self.request.exact and model.plan.device == "cpu":
            torch.set_num_threads(model.plan.threads)
        return model

    @staticmethod
    def _model(runtimes: Mapping[Slot, Runtime], slot: Slot) -> LoadedModel:
        runtime = runtimes.get(slot)
        if runtime is None:
            raise EngineError("no model is loaded", hint=f"load one on the {slot} side first")
        return runtime.model

    @staticmethod
    def _same_words(model: LoadedModel, vocabulary: bytes, pieces: int) -> None:
        tokenizer = model.tokenizer
        if tokenizer.vocabulary_digest != vocabulary:
            raise EngineError(
                f"the models do not share a vocabulary: {tokenizer.vocab_size} and {pieces} tokens",
                hint="compare schemes of one model, or models of one family",
            )
