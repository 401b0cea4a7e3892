"""One answer in the making: its tokens, its pages, its text, its clock. State without policy."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from quantchat.engine.metrics import Clock
from quantchat.events import FinishReason
from quantchat.requests import ChatRequest, Sampling
from quantchat.tokenizer import Detokenizer, StopMatcher, Tokenizer


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens are prompt, then answer; `computed` of them are in the cache."""

    request_id: int
    request: ChatRequest
    seed: int
    tokens: list[int]
    prompt_tokens: int
    clock: Clock
    detokenizer: Detokenizer
    stops: StopMatcher
    pages: list[int] = field(default_factory=list)
    computed: int = 0
    cached_tokens: int = 0
    text: str = ""
    row: int = -1
    """Place in a captured step's buffers, -1 outside one."""
    seen: torch.Tensor | None = None
    """bool [vocab] of tokens so far, where a repetition penalty is asked for."""
    started: bool = False
    cancelled: bool = False
    finish: FinishReason | None = None

    @staticmethod
    def create(
        request_id: int,
        request: ChatRequest,
        *,
        seed: int,
        ids: list[int],
        clock: Clock,
        tokenizer: Tokenizer,
    ) -> Sequence:
        """A sequence before its first step."""
        return Sequence(
            request_id=request_id,
            request=request,
            seed=seed,
            tokens=ids,
            prompt_tokens=len(ids),
            clock=clock,
            detokenizer=_detokenizer(tokenizer, request),
            stops=StopMatcher(tuple(dict.fromkeys((*request.stop, *tokenizer.template.stops)))),
        )

    @property
    def sampling(self) -> Sampling:
        """How its tokens are picked."""
        return self.request.sampling

    @property
    def draws(self) -> int:
        """Number, within its answer, of the token that is picked next; those of a prefix count."""
        return self.draws_of(len(self.tokens))

    def draws_of(self, tokens: int) -> int:
        """The number of the token that is picked behind so many."""
        return tokens - self.prompt_tokens + len(self.request.prefix_ids)

    @property
    def answer_tokens(self) -> int:
        """Tokens of the answer so far."""
        return len(self.tokens) - self.prompt_tokens

    def end(self, reason: FinishReason) -> None:
        """No more tokens come: the text is whole. A character that was cut short is left out."""
        self.finish = reason
        # What the model itself ended in the middle is shown as what it is.
        rest = self.detokenizer.flush() if reason == "stop" else ""
        tail, _ = self.stops.push(rest)
        self.text += tail + self.stops.flush()

    @property
    def prefilling(self) -> bool:
        """Whether more than the newest token is still to be computed."""
        return len(self.tokens) - self.computed > 1 or self.computed < self.prompt_tokens


def _detokenizer(tokenizer: Tokenizer, request: ChatRequest) -> Detokenizer:
    """Stands behind the prefix: a character that begins in it comes whole, with its last token."""
    made = Detokenizer(tokenizer, mid_text=request.continue_last)
    for token_id in request.prefix_ids:
        made.push(token_id)
    return made
