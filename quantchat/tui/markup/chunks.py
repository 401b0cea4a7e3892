"""Cuts Markdown that is still being written into pieces that will not change any more.

Owns where it is safe to cut: between top-level blocks, between items of a long list, between
lines of an open fence. Parsing and drawing a piece belongs to `layout`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

FENCE = re.compile(r"^( {0,3})(`{3,}|~{3,})\s*([^`]*)$")
ITEM = re.compile(r"^(\s*)([-*+]|\d{1,9}[.)])\s")
HEADING = re.compile(r"^#{1,6}\s")
FENCE_LINES = 40
"""An open fence is passed on in parts of this many lines."""
LIST_LINES = 24
"""A list longer than this is passed on before its next top-level item."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer: Markdown, or lines of one fence."""

    kind: Literal["text", "code"]
    source: str
    language: str = ""
    opens: bool = True
    """The first part of its fence."""
    closes: bool = True
    """The last part of its fence."""
    joined: bool = False
    """Goes on with the list before it: no blank line between."""


class Splitter:
    """Takes text as it streams and gives out finished chunks; the rest is the tail."""

    def __init__(self, *, fence_lines: int = FENCE_LINES) -> None:
        self._fence_lines = fence_lines
        self._partial = ""
        self._lines: list[str] = []
        self._done: list[Chunk] = []
        self._fence: re.Match[str] | None = None
        self._opened = False
        self._in_list = False
        self._blank = False
        self._joined = False

    def feed(self, text: str) -> list[Chunk]:
        """The chunks that `text` completes."""
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._take(line)
        done, self._done = self._done, []
        return done

    def tail(self) -> list[Chunk]:
        """What is not finished yet, as it would be if the text ended here."""
        partial = self._partial
        if partial.lstrip()[:3] in ("`", "``", "```", "~", "~~", "~~~"):
            partial = ""
        lines = [*self._lines, partial] if partial else list(self._lines)
        if self._fence is not None:
            if not lines and self._opened:
                return []
            return [self._code(lines, closes=False)]
        source = "\n".join(lines).rstrip("\n")
        return [Chunk("text", source, joined=self._joined)] if source.strip() else []

    def finish(self) -> list[Chunk]:
        """The remaining chunks; an open fence is closed."""
        if self._partial:
            self._take(self._partial)
            self._partial = ""
        if self._fence is not None:
            self._done.append(self._code(self._lines, closes=True))
            self._lines, self._fence = [], None
        else:
            self._emit()
        done, self._done = self._done, []
        return done

    def _take(self, line: str) -> None:
        if self._fence is not None:
            self._take_code(line, self._fence)
            return
        fence = FENCE.match(line)
        if fence is not None:
            self._emit()
            self._fence, self._opened = fence, False
        elif not line.strip():
            if self._lines:
                self._lines.append("")
                self._blank = True
        else:
            self._take_text(line)

    def _take_code(self, line: str, fence: re.Match[str]) -> None:
        mark = fence[2]
        bare = line.strip()
        if len(bare) >= len(mark) and not bare.strip(mark[0]):
            self._done.append(self._code(self._lines, closes=True))
            self._lines, self._fence = [], None
            return
        indent = len(fence[1])
        self._lines.append(line[indent:] if not line[:indent].strip() else line)
        if len(self._lines) >= self._fence_lines:
            self._done.append(self._code(self._lines, closes=False))
            self._lines, self._opened = [], True

    def _take_text(self, line: str) -> None:
        item = ITEM.match(line)
        heading = HEADING.match(line) is not None
        after_heading = len(self._lines) == 1 and HEADING.match(self._lines[0]) is not None
        if (
            (self._blank and not (self._in_list and (item or line[:2].isspace())))
            or heading
            or after_heading
        ):
            self._emit()
        elif self._in_list and item and not item[1] and len(self._lines) >= LIST_LINES:
            self._emit()
            self._joined = True
        self._in_list = self._in_list or item is not None
        self._lines.append(line)
        self._blank = False

    def _emit(self) -> None:
        source = "\n".join(self._lines).rstrip("\n")
        if source.strip():
            self._done.append(Chunk("text", source, joined=self._joined))
        self._lines = []
        self._in_list = self._blank = self._joined = False

    def _code(self, lines: list[str], *, closes: bool) -> Chunk:
        assert self._fence is not None
        words = self._fence[3].split()
        return Chunk(
            "code",
            "\n".join(lines),
            language=words[0] if words else "",
            opens=not self._opened,
            closes=closes,
        )


def split(text: str) -> list[Chunk]:
    """All chunks of a finished text, each fence whole up to 400 lines."""
    splitter = Splitter(fence_lines=400)
    return splitter.feed(text) + splitter.finish()


def code_blocks(text: str) -> list[str]:
    """The contents of every fence, in order."""
    blocks: list[str] = []
    for chunk in split(text):
        if chunk.kind != "code":
            continue
        if chunk.opens:
            blocks.append(chunk.source)
        else:
            blocks[-1] += "\n" + chunk.source
    return blocks
