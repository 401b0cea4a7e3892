"""Log-probabilities of an answer, kept in main memory for a model that comes later.

Two models that do not fit at once take turns: the first one's are kept, the second is held against
them. Owns the bound and the check that they are of the same tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from quantchat.engine.model import LoadedModel
from quantchat.errors import EngineError
from quantchat.requests import ScoreRequest

KEPT_BYTES = 2 << 30
FREE_SHARE = 0.5
"""Of the free memory that is taken at most."""
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True, eq=False)
class KeptScores:
    """float32 [S, V] of the tokens of a request from its `first` on."""

    request_id: int
    request: ScoreRequest
    vocabulary: bytes
    pieces: int
    log_probs: torch.Tensor

    @staticmethod
    def room_for(request_id: int, request: ScoreRequest, model: LoadedModel) -> KeptScores:
        """Memory to be filled; raises EngineError where it would be too much."""
        shape = (len(request.answer_ids) - request.first, model.decoder.spec.vocab)
        needed = shape[0] * shape[1] * FLOAT_BYTES
        most = min(KEPT_BYTES, int(FREE_SHARE * psutil.virtual_memory().available))
        if needed > most:
            raise EngineError(
                f"what {model.info.model} predicts for {shape[0]} tokens takes "
                f"{needed / 2**30:.1f} GiB of main memory, at most {most / 2**30:.1f} are used",
                hint="compare a shorter answer, or models that fit side by side",
            )
        tokenizer = model.tokenizer
        return KeptScores(
            request_id,
            request,
            tokenizer.vocabulary_digest,
            tokenizer.vocab_size,
            torch.empty(shape, dtype=torch.float32),
        )

    def check(self, request: ScoreRequest) -> None:
        """Raises EngineError where a request is about other tokens, or told to be of other kind."""
        mine = self.request
        same = mine.messages == request.messages and mine.answer_ids == request.answer_ids
        if not same or mine.first > request.first:
            raise EngineError(
                "what was kept of the first model is of another answer",
                hint="score the answer with the first model again",
            )
        if mine.exact != request.exact:
            raise EngineError(
                "what was kept of the first model was computed in another way",
                hint="score with both models exactly, or with neither",
            )

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Those of the answer's tokens start .. stop."""
        return self.log_probs[start - self.request.first : stop - self.request.first]
