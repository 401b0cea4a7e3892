"""Ids that a model has no row for are told before anything runs on its device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from quantchat.engine.prompt import prompt_of
from quantchat.errors import EngineError
from quantchat.requests import Message


def model_of(ids: list[int], vocab: int) -> Any:
    return SimpleNamespace(
        decoder=SimpleNamespace(spec=SimpleNamespace(vocab=vocab)),
        info=SimpleNamespace(model="m"),
        plan=SimpleNamespace(context_tokens=64, fit=SimpleNamespace(longest_context_tokens=64)),
        tokenizer=SimpleNamespace(
            encode_chat=lambda messages, **_: list(ids), shown=lambda token_id: "<pad>"
        ),
    )


def test_tokens_that_the_tokenizer_alone_knows_are_told() -> None:
    messages = (Message("user", "x"),)
    assert prompt_of(model_of([1, 99], 100), messages).ids == [1, 99]
    with pytest.raises(EngineError, match="token 100 '<pad>' of the tokenizer is not one of m's"):
        prompt_of(model_of([1, 100, 2], 100), messages)


def test_tokens_of_another_model_are_told() -> None:
    for foreign in (100, -1):
        with pytest.raises(EngineError, match=f"token {foreign} is not one of m's 100"):
            prompt_of(model_of([1], 100), (Message("user", "x"),), prefix_ids=(5, foreign))
