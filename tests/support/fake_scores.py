"""Scores of the fake engine: plausible, consistent with each other, the same at every run."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from quantchat.events import Candidate, Event, Failed, ModelInfo, Scored, TokenScore
from quantchat.requests import ScoreRequest, Slot

TOP = 5


@dataclass
class Vocabulary:
    """Pieces of text by token id, numbered as they come up."""

    pieces: list[str] = field(default_factory=list)
    _ids: dict[str, int] = field(default_factory=dict)

    def id_of(self, piece: str) -> int:
        """The same id for the same piece."""
        if piece not in self._ids:
            self._ids[piece] = len(self.pieces)
            self.pieces.append(piece)
        return self._ids[piece]

    def text(self, token_id: int) -> str:
        """The piece, or a name for an id that never came up."""
        known = 0 <= token_id < len(self.pieces)
        return self.pieces[token_id] if known else f"<{token_id}>"


@dataclass
class _Scoring:
    request_id: int
    request: ScoreRequest
    at: int
    cancelled: bool = False


@dataclass
class FakeScores:
    """Scorings under way; each goes on by `tokens_per_drain` tokens when the engine is drained."""

    vocabulary: Vocabulary
    tokens_per_drain: int = 16
    held: bool = False
    """Scorings wait until this is False."""
    failure: tuple[str, str] | None = None
    """Message and hint of a Failed, instead of scores."""

    def __post_init__(self) -> None:
        self.requests: list[ScoreRequest] = []
        self._pending: list[_Scoring] = []
        self._kept = 0

    def add(self, request_id: int, request: ScoreRequest) -> None:
        """Queue a scoring."""
        self.requests.append(request)
        self._pending.append(_Scoring(request_id, request, request.first))

    def cancel(self, request_id: int) -> None:
        """It ends at the next drain."""
        for scoring in self._pending:
            scoring.cancelled = scoring.cancelled or scoring.request_id == request_id

    def drain(self, infos: Mapping[Slot, ModelInfo]) -> list[Event]:
        """A step of every scoring."""
        return [event for scoring in list(self._pending) for event in self._step(scoring, infos)]

    def _step(self, scoring: _Scoring, infos: Mapping[Slot, ModelInfo]) -> list[Event]:
        request = scoring.request
        if scoring.cancelled:
            self._pending.remove(scoring)
            return [self._scored(scoring, (), done=True)]
        problem = self._problem(request, infos)
        if problem is not None:
            self._pending.remove(scoring)
            return [
                Failed(
                    request_id=scoring.request_id,
                    slot=request.slot,
                    message=problem[0],
                    hint=problem[1],
                    text="",
                    time_s=time.perf_counter(),
                )
            ]
        if self.held:
            return []
        first, end = scoring.at, scoring.at + self.tokens_per_drain
        ids = request.answer_ids[first:end]
        info = infos[request.slot]
        base = infos[request.base] if request.base else None
        if request.kept:
            base = info
        scores = tuple(
            self.score(token_id, first + n, info, base) for n, token_id in enumerate(ids)
        )
        done = end >= len(request.answer_ids)
        event = self._scored(scoring, scores, done=done)
        scoring.at = end
        if done:
            self._pending.remove(scoring)
            if not request.base and not request.kept:
                self._kept = scoring.request_id
        return [event]

    def _problem(
        self, request: ScoreRequest, infos: Mapping[Slot, ModelInfo]
    ) -> tuple[str, str] | None:
        if self.failure is not None:
            return self.failure
        if request.slot not in infos or (request.base and request.base not in infos):
            return "no model is loaded", "load one first"
        if request.kept and request.kept != self._kept:
            return "the kept scores are gone", "score with the base model again"
        return None

    def _scored(self, scoring: _Scoring, scores: tuple[TokenScore, ...], *, done: bool) -> Scored:
        return Scored(
            request_id=scoring.request_id,
            slot=scoring.request.slot,
            first=scoring.at,
            scores=scores,
            exact=scoring.request.exact,
            done=done,
            time_s=time.perf_counter(),
        )

    def score(
        self, token_id: int, index: int, info: ModelInfo, base: ModelInfo | None
    ) -> TokenScore:
        """One token; KL is that of "this token or any other"."""
        p = probability(token_id, index, info.bits_per_weight)
        top = self._top(token_id, p)
        if base is None:
            return TokenScore(
                token_id=token_id,
                text=self.vocabulary.text(token_id),
                p=p,
                top=top,
                base_p=None,
                base_top=(),
                kl=None,
                same_top=None,
            )
        base_p = probability(token_id, index, base.bits_per_weight)
        base_top = self._top(token_id, base_p)
        rest = (1 - base_p) * math.log((1 - base_p) / (1 - p))
        return TokenScore(
            token_id=token_id,
            text=self.vocabulary.text(token_id),
            p=p,
            top=top,
            base_p=base_p,
            base_top=base_top,
            kl=base_p * math.log(base_p / p) + rest,
            same_top=top[0].token_id == base_top[0].token_id,
        )

    def _top(self, token_id: int, p: float) -> tuple[Candidate, ...]:
        """The token itself and others that share most of what it leaves."""
        shares = [(1 - p) * share for share in (0.5, 0.2, 0.1, 0.05)]
        candidates = [(token_id, p), *((token_id + 1 + n, q) for n, q in enumerate(shares))]
        candidates.sort(key=lambda pair: -pair[1])
        return tuple(
            Candidate(token_id=other, text=self.vocabulary.text(other), p=q)
            for other, q in candidates[:TOP]
        )


def probability(token_id: int, index: int, bits: float) -> float:
    """Of a token at a place, moved a little by the bits of a weight."""
    spread = zlib.crc32(f"{index}|{token_id}".encode()) / 2**32
    moved = zlib.crc32(f"{index}|{token_id}|{bits}".encode()) / 2**32 - 0.5
    return min(0.99, max(0.01, 0.1 + 0.88 * spread + moved * 2 / bits))
