"""From a conversation to the token ids that a model reads, within its context.

Owns the checks of ids that come from outside; the template is the tokenizer's, what is left out of
a conversation that is too long is `context`'s.
"""

from __future__ import annotations

from quantchat.engine.context import FittedPrompt, fit_prompt
from quantchat.engine.model import LoadedModel
from quantchat.errors import EngineError
from quantchat.requests import Message


def prompt_of(
    model: LoadedModel,
    messages: tuple[Message, ...],
    *,
    prefix_ids: tuple[int, ...] = (),
    continue_last: bool = False,
    max_tokens: int = 0,
) -> FittedPrompt:
    """The conversation with the head of an answer, and what the answer begins with.

    Raises EngineError where ids are not the model's or the last turn alone is too long.
    """
    check_ids(model, prefix_ids)
    if prefix_ids and continue_last:
        raise EngineError(
            "an answer goes on from its text or from its tokens, not from both",
            hint="ask without one of them",
        )

    def encode(messages: tuple[Message, ...]) -> list[int]:
        ids = model.tokenizer.encode_chat(
            messages, add_generation_prompt=not continue_last, continue_last=continue_last
        )
        return [*ids, *prefix_ids]

    fitted = fit_prompt(
        messages,
        encode,
        context_tokens=model.plan.context_tokens,
        max_tokens=max_tokens,
        longest_tokens=model.plan.fit.longest_context_tokens,
    )
    vocab, largest = model.decoder.spec.vocab, max(fitted.ids, default=0)
    if largest >= vocab:
        # A card would read past the embedding's end.
        shown = model.tokenizer.shown(largest)
        raise EngineError(
            f"token {largest} {shown!r} of the tokenizer is not one of {model.info.model}'s {vocab}",
            hint="the tokenizer's files are another model's, or its added tokens were not trained",
        )
    return fitted


def check_ids(model: LoadedModel, ids: tuple[int, ...]) -> None:
    """Raises EngineError for ids past the model's vocabulary."""
    vocab = model.decoder.spec.vocab
    foreign = next((token_id for token_id in ids if not 0 <= token_id < vocab), None)
    if foreign is not None:
        raise EngineError(
            f"token {foreign} is not one of {model.info.model}'s {vocab}",
            hint="tokens of one model can be read by models of the same vocabulary alone",
        )
