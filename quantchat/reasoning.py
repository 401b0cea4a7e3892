"""Where a model's reasoning ends and its answer begins.

Owns the marks that models write around what they think. A template may put the opening mark into
the prompt; then only the closing one is in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MARKS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
)
LATE = re.compile(r"(?<!`)</think>[ \t]*(?:\n|\Z)")
"""A closing mark without an opening one; in backticks it is talked about, not meant."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A text in two."""

    reasoning: str
    answer: str
    closed: bool
    """False while the reasoning goes on."""


def parts_of(text: str) -> Parts:
    """The reasoning at the start of a text, and the rest."""
    head = text.lstrip()
    for opening, closing in MARKS:
        if head.startswith(opening):
            thought, mark, answer = head[len(opening) :].partition(closing)
            return Parts(thought.strip(), answer.lstrip(), bool(mark))
    late = LATE.search(text)
    # Behind an opening mark within the text both are an example: reasoning begins the text.
    if late is None or "<think>" in text[: late.start()]:
        return Parts("", text, True)
    return Parts(text[: late.start()].strip(), text[late.end() :].lstrip(), True)


def opening_of(prompt: str) -> str:
    """The mark with which a rendered prompt opens the answer's reasoning, with what follows it."""
    bare = prompt.rstrip()
    mark = next((opening for opening, _ in MARKS if bare.endswith(opening)), "")
    return prompt[len(bare) - len(mark) :] if mark else ""


class ReasoningStream:
    """Tells the two apart while a text streams."""

    def __init__(self) -> None:
        self._held = ""
        """What may be the beginning of a mark."""
        self._closing = ""
        self._decided = False
        self._began = False

    @property
    def thinking(self) -> bool:
        """Whether what comes next is reasoning."""
        return bool(self._closing)

    def feed(self, text: str) -> tuple[str, str]:
        """What the text adds to the reasoning and to the answer."""
        text, self._held = self._held + text, ""
        if not self._decided:
            head = text.lstrip()
            opened = next((pair for pair in MARKS if head.startswith(pair[0])), None)
            if opened is None and any(opening.startswith(head) for opening, _ in MARKS):
                self._held = text
                return "", ""
            self._decided = True
            if opened is not None:
                self._closing = opened[1]
                text = head[len(opened[0]) :]
        if not self._closing:
            return "", self._begun(text)
        thought, mark, answer = text.partition(self._closing)
        if mark:
            self._closing = ""
            return thought, self._begun(answer)
        keep = next(
            (n for n in range(len(self._closing) - 1, 0, -1) if text.endswith(self._closing[:n])), 0
        )
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], ""

    def _begun(self, text: str) -> str:
        """The answer without the blank lines above it."""
        if not self._began:
            text = text.lstrip()
            self._began = bool(text)
        return text
