"""What a view of tokens is made of: lines of words, and answers laid out in rows.

Owns which answers are kept laid out: the latest, and a few that are looked at. Of the others only
the number of rows is known; they are laid out again when one of their rows is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from textual.content import Content
from textual.style import Style

from quantchat.tui.markup.palette import Palette
from quantchat.tui.widgets.token_flow import TokenFlow
from quantchat.tui.widgets.token_inks import Inks

FLOWS_KEPT = 4
"""Answers that are laid out at once."""

Painter: TypeAlias = Callable[[int, Inks], Style | None]
"""A token's index to its ink; None leaves it plain."""
Drawer: TypeAlias = Callable[[int, Palette], Sequence[Content]]
"""Lines that are not tokens, at a width."""


class Words:
    """Lines that stay as they are."""

    def __init__(self, draw: Drawer) -> None:
        self.draw = draw
        self.lines: Sequence[Content] = ()

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.lines)


class Tokens:
    """One answer."""

    def __init__(self, painter: Painter, flow: TokenFlow) -> None:
        self.painter = painter
        self.pieces: list[str] = []
        self._shared = False
        self.flow: TokenFlow | None = flow
        self.width = flow.width
        self._rows = 0

    @property
    def rows(self) -> int:
        """How many it fills, laid out or not."""
        return max(1, self._rows if self.flow is None else self.flow.rows)

    def add(self, pieces: Sequence[str]) -> None:
        """More tokens behind those that are there."""
        if self._shared:
            self.pieces, self._shared = list(self.pieces), False
        self.pieces += pieces

    def share(self, pieces: list[str]) -> None:
        """Keep no list of its own: the same tokens are held elsewhere."""
        self.pieces, self._shared = pieces, True

    def forget(self) -> None:
        """Keep only the number of rows."""
        if self.flow is not None:
            self._rows, self.flow = self.flow.rows, None


class Flows:
    """Which answers are laid out; the one asked for last stays longest."""

    def __init__(self) -> None:
        self._laid_out: list[Tokens] = []

    def of(self, tokens: Tokens) -> TokenFlow:
        """The answer's rows."""
        flow = tokens.flow
        if flow is None:
            flow = tokens.flow = TokenFlow(tokens.width, tokens.pieces)
        if not self._laid_out or self._laid_out[-1] is not tokens:
            if tokens in self._laid_out:
                self._laid_out.remove(tokens)
            self._laid_out.append(tokens)
            for each in self._laid_out[:-FLOWS_KEPT]:
                each.forget()
            del self._laid_out[:-FLOWS_KEPT]
        return flow

    def lay_out(self, tokens: Tokens, width: int) -> None:
        """Anew, at another width or with other tokens."""
        tokens.width = width
        tokens.flow = TokenFlow(width, tokens.pieces)
        self.of(tokens)

    def clear(self) -> None:
        """None are left."""
        self._laid_out.clear()
