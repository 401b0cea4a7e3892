"""The lines of one text that may still be growing.

Keeps what is finished as drawn lines and draws only the tail anew, so that a flush costs as much
as the open block, never as much as the answer.
"""

from __future__ import annotations

from collections.abc import Callable

from textual.content import Content

from quantchat.tui.markup.chunks import Chunk, Splitter, split
from quantchat.tui.markup.layout import BLANK, chunk_lines
from quantchat.tui.markup.palette import Palette

CopyLabel = Callable[[int], Content]
"""The clickable word above the n-th code block of a text."""


class GrowingText:
    """Markdown that streams: `append`, then `lines`; `settle` once it is whole."""

    def __init__(self, width: int, palette: Palette, copy: CopyLabel | None = None) -> None:
        self._width = width
        self._palette = palette
        self._copy = copy
        self._splitter = Splitter()
        self._lines: list[Content] = []
        self._blocks = 0
        self._last: Chunk | None = None

    def append(self, text: str) -> bool:
        """Take more text; True when finished lines were added."""
        chunks = self._splitter.feed(text)
        for chunk in chunks:
            self._lines.extend(self._draw(chunk, self._last))
            self._last = chunk
        return bool(chunks)

    @property
    def settled_lines(self) -> list[Content]:
        """Lines that will not change any more."""
        return self._lines

    def tail_lines(self) -> list[Content]:
        """Lines of the open block."""
        lines: list[Content] = []
        before, blocks = self._last, self._blocks
        for chunk in self._splitter.tail():
            lines.extend(self._draw(chunk, before))
            before = chunk
        self._blocks = blocks
        return lines

    def _draw(self, chunk: Chunk, before: Chunk | None) -> list[Content]:
        label = None
        if chunk.kind == "code" and chunk.opens:
            label = self._copy(self._blocks) if self._copy else None
            self._blocks += 1
        lines = chunk_lines(chunk, self._width, self._palette, copy=label)
        goes_on = chunk.joined or (chunk.kind == "code" and not chunk.opens)
        return lines if before is None or goes_on else [BLANK, *lines]


def text_lines(
    text: str, width: int, palette: Palette, copy: CopyLabel | None = None
) -> list[Content]:
    """All lines of a finished text."""
    growing = GrowingText(width, palette, copy)
    for chunk in split(text):
        growing._lines.extend(growing._draw(chunk, growing._last))
        growing._last = chunk
    return growing._lines
