"""The lines of one text that may still be growing.

Keeps what is finished as drawn lines and draws only the tail anew, so that a flush costs as much
as the open block, never as much as the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from textual.content import Content

from quantchat.tui.markup.chunks import Chunk, Splitter, split
from quantchat.tui.markup.layout import BLANK, chunk_lines
from quantchat.tui.markup.palette import Palette

CopyLabel = Callable[[int], Content]
"""The clickable word above the n-th code block of a text."""
Pieces: TypeAlias = dict[tuple[Chunk, int], list[Content]]
"""Lines of pieces as they were drawn at one width; the number is that of the code block."""


class GrowingText:
    """Markdown that streams: `append`, then `lines`; `settle` once it is whole."""

    def __init__(
        self,
        width: int,
        palette: Palette,
        copy: CopyLabel | None = None,
        known: Pieces | None = None,
    ) -> None:
        """`known`: taken from instead of drawing, and added to."""
        self._known = known if known is not None else {}
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
        self._take(chunks)
        return bool(chunks)

    def take_all(self, text: str) -> None:
        """The whole of a finished text."""
        self._take(split(text))

    @property
    def settled_lines(self) -> list[Content]:
        """Lines that will not change any more."""
        return self._lines

    def tail_lines(self) -> list[Content]:
        """Lines of the open block."""
        lines: list[Content] = []
        before, blocks = self._last, self._blocks
        for chunk in self._splitter.tail():
            lines.extend(self._joined(chunk, before, self._drawn(chunk)))
            before = chunk
        self._blocks = blocks
        return lines

    def _take(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            key = (chunk, self._blocks)
            lines = self._known.get(key)
            if lines is None:
                lines = self._known[key] = self._drawn(chunk)
            else:
                self._blocks += chunk.kind == "code" and chunk.opens
            self._lines.extend(self._joined(chunk, self._last, lines))
            self._last = chunk

    def _drawn(self, chunk: Chunk) -> list[Content]:
        label = None
        if chunk.kind == "code" and chunk.opens:
            label = self._copy(self._blocks) if self._copy else None
            self._blocks += 1
        return chunk_lines(chunk, self._width, self._palette, copy=label)

    @staticmethod
    def _joined(chunk: Chunk, before: Chunk | None, lines: list[Content]) -> list[Content]:
        goes_on = chunk.joined or (chunk.kind == "code" and not chunk.opens)
        return lines if before is None or goes_on else [BLANK, *lines]


def text_lines(
    text: str,
    width: int,
    palette: Palette,
    copy: CopyLabel | None = None,
    known: Pieces | None = None,
) -> list[Content]:
    """All lines of a finished text; `known` pieces are not drawn again."""
    growing = GrowingText(width, palette, copy, known)
    growing.take_all(text)
    return growing.settled_lines
