"""Which tokens are no text and which end an answer, known by their names across families."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quantchat.reasoning import MARKS

TURN_ENDS = frozenset(
    {
        "</s>",  # Llama 2, Mistral
        "<EOT>",  # CodeLlama infill
        "<end_of_turn>",  # Gemma
        "<eos>",  # Gemma
        "<|END_OF_TURN_TOKEN|>",  # Command R
        "<|end_of_text|>",  # Llama 3, Granite
        "<|end_of_turn|>",  # OpenChat
        "<|endoftext|>",  # GPT-2, Qwen, Phi, SmolLM2
        "<|end|>",  # Phi 3
        "<|eom_id|>",  # Llama 3.1, before a tool answers
        "<|eot_id|>",  # Llama 3
        "<|im_end|>",  # ChatML: Qwen, SmolLM2, Yi
        "<｜end▁of▁sentence｜>",  # DeepSeek
    }
)
"""A token of one of these names ends an answer wherever it is a special token."""

_THOUGHT = frozenset(mark for pair in MARKS for mark in pair)


def turn_ends(pieces: Sequence[str], special_ids: Iterable[int]) -> frozenset[int]:
    """Special tokens that end a turn, by name."""
    return frozenset(i for i in special_ids if pieces[i] in TURN_ENDS)


def marks(pieces: Sequence[str], added_ids: Iterable[int]) -> frozenset[int]:
    """Added tokens that are control tokens by their look, `<|user|>` or `<｜User｜>`.

    Many files call them ordinary words; then a message could write turns of its own.
    """
    return frozenset(
        i
        for i in added_ids
        if any(pieces[i].startswith(f"<{bar}") and pieces[i].endswith(f"{bar}>") for bar in "|｜")
    )


def thought_marks(pieces: Sequence[str], ids: Iterable[int]) -> frozenset[int]:
    """Tokens around what a model thinks: text, whatever the file says, else nothing would tell
    its reasoning from its answer."""
    return frozenset(i for i in ids if pieces[i] in _THOUGHT)
