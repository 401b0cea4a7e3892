"""What happens when a conversation outgrows the context.

Policy: the system prompt and the last user turn stay; the oldest turns between go, a user turn
together with what answered it, until the rest and room for an answer fit. The user is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quantchat.errors import EngineError
from quantchat.requests import Message, WayOut

ANSWER_TOKENS = 512
"""Room kept for the answer where the context allows, at most a quarter of it."""
STEP_TOKENS = 1024
"""Contexts that are offered are multiples of it."""


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """The prompt that goes to the model."""

    ids: list[int]
    dropped_messages: int


def answer_room(context_tokens: int, max_tokens: int) -> int:
    """Tokens to keep free for the answer."""
    room = min(ANSWER_TOKENS, max(1, context_tokens // 4))
    return min(room, max_tokens) if max_tokens > 0 else room


def fit_prompt(
    messages: tuple[Message, ...],
    encode: Callable[[tuple[Message, ...]], list[int]],
    *,
    context_tokens: int,
    max_tokens: int,
    longest_tokens: int = 0,
) -> FittedPrompt:
    """Encode the conversation within the context; raises EngineError if the last turn alone is too long.

    `longest_tokens` is the longest context that the model could be loaded with here.
    """
    budget = context_tokens - answer_room(context_tokens, max_tokens)
    head = messages[:1] if messages and messages[0].role == "system" else ()
    turns = messages[len(head) :]
    ids = encode(messages)
    if len(ids) <= budget:
        return FittedPrompt(ids, 0)
    starts = [i for i, message in enumerate(turns) if i > 0 and message.role == "user"]
    # Binary search: fewer turns never make a longer prompt.
    low, high = 0, len(starts) - 1
    found: FittedPrompt | None = None
    while low <= high:
        middle = (low + high) // 2
        kept = encode((*head, *turns[starts[middle] :]))
        if len(kept) <= budget:
            found = FittedPrompt(kept, starts[middle])
            high = middle - 1
        else:
            low = middle + 1
    if found is None:
        last = encode((*head, *turns[starts[-1] :])) if starts else ids
        raise EngineError(
            f"the last message needs {len(last)} tokens, "
            f"{budget} of the context's {context_tokens} are free for the prompt",
            hint="shorten it, or load the model with a longer context",
            ways=_longer(len(last), max_tokens, longest_tokens),
        )
    return found


def _longer(needed: int, max_tokens: int, longest_tokens: int) -> tuple[WayOut, ...]:
    """A context that the message fits into twice, or the longest where it fits at all."""
    if needed + answer_room(longest_tokens, max_tokens) > longest_tokens:
        return ()
    twice = -(-2 * (needed + ANSWER_TOKENS) // STEP_TOKENS) * STEP_TOKENS
    tokens = min(longest_tokens, twice)
    words = f"a context of {tokens} tokens: up to {longest_tokens} fit here"
    return (WayOut(field="context_tokens", value=tokens, words=words),)
