"""Tokens as wrapped rows: which characters stand in which row, and which token wrote them.

Pure layout, no colours. A row is final once the next one has begun, so that more tokens cost the
last row and what is new, whatever the length of the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from rich.cells import cell_len

NARROWEST_CELLS = 8
Kind: TypeAlias = Literal["text", "heading", "code"]
_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
_HEADING = re.compile(r" {0,3}#{1,6} ")
_UNSEEN = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def shown(piece: str) -> str:
    """A token's text as it can stand in a row: tabs as spaces, a dot for what would move the cursor."""
    return _UNSEEN.sub(_stand_in, piece) if _UNSEEN.search(piece) else piece


def _stand_in(found: re.Match[str]) -> str:
    return {"\t": "    ", "\r": ""}.get(found.group(), "·")


class TokenFlow:
    """One text made of tokens at one width."""

    def __init__(self, width: int, pieces: Sequence[str] = ()) -> None:
        self.width = max(NARROWEST_CELLS, width)
        self.text = ""
        self.starts: list[int] = []
        """Where each token begins in the text."""
        self.begins: list[int] = []
        """Where each row begins; what lies between a row's end and the next is a line break."""
        self.ends: list[int] = []
        self.fences: list[int] = []
        """Where lines begin that open or close a block of code."""
        self.append(pieces)

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.begins)

    def append(self, pieces: Sequence[str]) -> int:
        """More tokens; the first row that changed."""
        parts = []
        at = len(self.text)
        for piece in pieces:
            self.starts.append(at)
            part = shown(piece)
            parts.append(part)
            at += len(part)
        grown = self.text.rfind("\n") + 1
        self.text += "".join(parts)
        self._find_fences(grown)
        first = max(0, len(self.begins) - 1)
        if not self.begins and not self.text:
            return 0
        begin = self.begins[first] if self.begins else 0
        del self.begins[first:], self.ends[first:]
        for row in _rows(self.text, begin, self.width):
            self.begins.append(row[0])
            self.ends.append(row[1])
        return first

    def parts(self, row: int) -> Iterator[tuple[int, str]]:
        """The row's tokens in order with what they write there."""
        at, end = self.begins[row], self.ends[row]
        token = bisect_right(self.starts, at) - 1
        while at < end:
            behind = token + 1
            until = min(end, self.starts[behind]) if behind < len(self.starts) else end
            if until > at:
                yield token, self.text[at:until]
            at, token = until, behind

    def kind(self, row: int) -> Kind:
        """What the row is in Markdown, as far as its line tells."""
        begin = self.begins[row]
        line = self.text.rfind("\n", 0, begin) + 1
        before = bisect_right(self.fences, line)
        if before % 2 or (before and self.fences[before - 1] == line):
            return "code"
        return "heading" if _HEADING.match(self.text, line) else "text"

    def _find_fences(self, begin: int) -> None:
        """Look through the lines from there on; the last one may still grow."""
        while self.fences and self.fences[-1] >= begin:
            self.fences.pop()
        self.fences += [begin + each.start() for each in _FENCE.finditer(self.text[begin:])]

    def breaker(self, row: int) -> int | None:
        """The token that wrote the line break at the row's end, if one did."""
        end = self.ends[row]
        if end >= len(self.text) or self.text[end] != "\n":
            return None
        return bisect_right(self.starts, end) - 1

    def row_of(self, token: int) -> int:
        """The row in which a token begins."""
        if not self.begins:
            return 0
        return max(0, bisect_right(self.begins, self.starts[token]) - 1)

    def rows_of(self, first: int, end: int) -> range:
        """Rows in which tokens from `first` up to `end` stand."""
        if first >= min(end, len(self.starts)) or not self.begins:
            return range(0)
        until = self.starts[end] if end < len(self.starts) else len(self.text)
        return range(
            self.row_of(first), max(self.row_of(first) + 1, bisect_left(self.begins, until))
        )

    def token_at(self, row: int, cell: int) -> int | None:
        """The token at a cell of a row; None right of its text."""
        if not 0 <= row < self.rows:
            return None
        for token, part in self.parts(row):
            cell -= cell_len(part)
            if cell < 0:
                return token
        breaker = self.breaker(row)
        return breaker if breaker is not None and cell < 1 else None


def _rows(text: str, begin: int, width: int) -> Iterator[tuple[int, int]]:
    """Rows of the text from a row's beginning on."""
    while True:
        line_end = text.find("\n", begin)
        end = len(text) if line_end < 0 else line_end
        yield from _wrapped(text, begin, end, width)
        if line_end < 0:
            return
        begin = line_end + 1


def _wrapped(text: str, begin: int, end: int, width: int) -> Iterator[tuple[int, int]]:
    """A line as rows: broken behind spaces and wide characters, else anywhere."""
    if text.isascii() or text[begin:end].isascii():
        yield from _wrapped_ascii(text, begin, end, width)
        return
    while True:
        cells, at, chance = 0, begin, -1
        while at < end:
            wide = 1 if text[at] < "\u0300" else _cells(text, at)
            if cells + wide > width:
                break
            cells += wide
            at += 1
            if wide == 2 or text[at - 1] == " ":
                chance = at
        if at < end and text[at] == " ":
            # Spaces at the edge belong to the row that they end.
            while at < end and text[at] == " ":
                at += 1
        elif at < end and chance > begin:
            at = chance
        yield begin, at
        begin = at
        if begin >= end:
            return


def _cells(text: str, at: int) -> int:
    """Cells of a character; the mark of emojis widens the one that it stands behind."""
    if text[at] == "\ufe0f" and at:
        return cell_len(text[at - 1 : at + 1]) - cell_len(text[at - 1])
    return cell_len(text[at])


def _wrapped_ascii(text: str, begin: int, end: int, width: int) -> Iterator[tuple[int, int]]:
    """The same where every character takes one cell."""
    while end - begin > width:
        at = begin + width
        if text[at] == " ":
            while at < end and text[at] == " ":
                at += 1
        else:
            chance = text.rfind(" ", begin, at) + 1
            at = chance if chance > begin else at
        yield begin, at
        begin = at
        if begin >= end:
            return
    yield begin, end
