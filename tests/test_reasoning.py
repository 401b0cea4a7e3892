"""Reasoning is told from the answer, whole and while it streams."""

from __future__ import annotations

import random

import pytest

from quantchat.reasoning import MARKS, ReasoningStream, opening_of, parts_of

ANSWER = "It is **blue**.\n\nBecause <b> and [x] are no marks."


@pytest.mark.parametrize(("opening", "closing"), MARKS)
@pytest.mark.parametrize("seed", range(4))
def test_a_stream_gives_what_the_whole_text_gives(opening: str, closing: str, seed: int) -> None:
    text = f"\n{opening}\nFirst < then </ that\n{closing}\n\n{ANSWER}"
    whole = parts_of(text)
    assert (whole.reasoning, whole.answer, whole.closed) == ("First < then </ that", ANSWER, True)
    draw, stream = random.Random(seed), ReasoningStream()
    thought = answer = ""
    at = 0
    while at < len(text):
        step = draw.randint(1, 5)
        more = stream.feed(text[at : at + step])
        thought, answer, at = thought + more[0], answer + more[1], at + step
    assert thought.strip() == whole.reasoning and answer == ANSWER and not stream.thinking


def test_reasoning_without_an_end_is_not_closed() -> None:
    parts = parts_of("<think>\nand so on")
    assert (parts.reasoning, parts.answer, parts.closed) == ("and so on", "", False)


def test_a_template_may_have_opened_the_reasoning() -> None:
    parts = parts_of("so it is\n</think>\n\nYes.")
    assert (parts.reasoning, parts.answer) == ("so it is", "Yes.")


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "",
        "say `</think>` to end it",
        "a <think> in a sentence",
        "It looks so:\n```\n<think>\nhm\n</think>\nYes.\n```",
    ],
)
def test_other_texts_are_answers(text: str) -> None:
    parts = parts_of(text)
    assert (parts.reasoning, parts.answer, parts.closed) == ("", text, True)
    stream = ReasoningStream()
    assert "".join(stream.feed(letter)[1] for letter in text) == text


@pytest.mark.parametrize(
    ("prompt", "opening"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>\n"),
        ("[INST] x [/INST][THINK]", "[THINK]"),
        ("<|im_start|>assistant\n", ""),
        ("", ""),
    ],
)
def test_the_opening_of_a_prompt(prompt: str, opening: str) -> None:
    assert opening_of(prompt) == opening
