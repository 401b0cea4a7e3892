"""The cursor on a token of the latest round: where it is, what both models hold of that token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from quantchat.comparing.words import quoted
from quantchat.tui.control.comparing.guide import Guide
from quantchat.tui.control.comparing.pair import Pair
from quantchat.tui.control.comparing.pane import Pane
from quantchat.tui.control.comparing.rounds import LiveRound, Written
from quantchat.tui.control.comparing.side import NAMES, SideName

Token: TypeAlias = tuple[int, str]
"""Its id and its text."""


class Cursor:
    """One for both panes; `rounds` are those of the comparison."""

    def __init__(
        self,
        panes: tuple[Pane, Pane],
        rounds: list[LiveRound],
        pair: Pair,
        guide: Guide,
        *,
        busy: Callable[[], bool],
    ) -> None:
        self._panes = panes
        self._rounds = rounds
        self._pair = pair
        self._guide = guide
        self._busy = busy
        self.at: int | None = None
        self.near: SideName = "right"
        """The side whose token it is on."""

    def leave(self) -> None:
        """Take it away."""
        self.at = None
        for pane in self._panes:
            pane.point(None, near=True)

    def point(self, index: int, near: SideName | None = None) -> None:
        """Put it on a token; both panes show it."""
        shown = self._shown
        if shown is None or not 0 <= index < self._tokens(shown):
            return
        self.near = near or self.near
        self.at = index
        for place, pane in enumerate(self._panes):
            pane.point(index, near=shown.name_at(place) == self.near)
        self.probe()

    def move(self, step: int) -> None:
        """To another token."""
        shown = self._shown
        tokens = 0 if shown is None else self._tokens(shown)
        if tokens:
            at = (tokens if step < 0 else -1) if self.at is None else self.at
            self.point(max(0, min(tokens - 1, at + step)))

    def to_parting(self, step: int) -> bool:
        """To the next token, or the one before, where the two disagree; False when there is none."""
        shown = self._shown
        if shown is None or not self._tokens(shown):
            return False
        at = shown.next_parting(self.at) if step > 0 else shown.earlier_parting(self.at)
        if at is not None:
            self.point(at)
        return at is not None

    def probe(self) -> None:
        """Have both models look at the token, where their answers are the same before it."""
        shown, at = self._shown, self.at
        if shown is None or at is None or shown.mode == "guided" or self._busy():
            return
        here = shown.revealed and shown.same_context and at <= shown.same_tokens
        known = shown.score_at(at) is not None or bool(shown.problem)
        both = all(
            side.loaded and side.info == shown.infos.get(side.name) for side in self._pair.sides
        )
        if both and here and not known:
            ids = self._written(shown, at).ids
            self._guide.probe(shown, at, tuple(ids[: at + 1]))

    def given(self, token: Token | None) -> list[Token]:
        """The tokens before it, and that one in its place."""
        shown, at = self._shown, self.at
        assert shown is not None and at is not None
        written = self._written(shown, at)
        before = list(zip(written.ids[:at], written.pieces[:at], strict=True))
        return [*before, token] if token is not None else before

    def pieces(self) -> tuple[str, str]:
        """What the two wrote there; empty behind an answer's end."""
        shown, at = self._shown, self.at
        assert shown is not None and at is not None
        left = shown.left.pieces
        right = left if shown.mode == "guided" else shown.right.pieces
        return left[at] if at < len(left) else "", right[at] if at < len(right) else ""

    def why_unknown(self) -> str:
        """What stands in the way of both models' view of the token."""
        shown, at = self._shown, self.at
        assert shown is not None and at is not None
        if shown.problem:
            return f"not scored: {shown.problem}"
        if shown.mode == "guided":
            return "not scored yet"
        if not shown.revealed:
            return ""
        if not shown.same_context or at > shown.same_tokens:
            return "the answers parted before: nothing to compare here"
        if self._pair.taking_turns:
            return "not scored: they take turns"
        return "being scored" if self._guide.request_id else "not scored yet"

    def ways_on(self, names: tuple[str, str]) -> list[tuple[str, Token | None]]:
        """Tokens that both can go on behind, in words, each once; None lets each write its own."""
        shown, at = self._shown, self.at
        if shown is None or at is None:
            return []
        found: dict[int, tuple[str, Token | None]] = {}
        sides = (shown.left,) if shown.mode == "guided" else (shown.left, shown.right)
        for name, written in zip(names, sides, strict=False):
            if at < len(written.ids):
                token = (written.ids[at], written.pieces[at])
                found.setdefault(token[0], (f"{quoted(token[1])} of {name}", token))
        score = shown.score_at(at)
        if score is not None:
            for name, top in zip(names, (score.base_top, score.top), strict=True):
                for one in top[:1]:
                    words = f"{quoted(one.text)}, likeliest of {name}"
                    found.setdefault(one.token_id, (words, (one.token_id, one.text)))
        return [*found.values(), ("none: each its own", None)]

    @property
    def _shown(self) -> LiveRound | None:
        return self._rounds[-1] if self._rounds else None

    @staticmethod
    def _tokens(shown: LiveRound) -> int:
        if not shown.revealed and not shown.voting:
            return 0
        if shown.mode == "guided":
            return len(shown.left.ids)
        return max(len(shown.left.ids), len(shown.right.ids))

    def _written(self, shown: LiveRound, at: int) -> Written:
        """The near side's answer, unless it had ended there."""
        if shown.mode == "guided":
            return shown.left
        near = shown.written(self.near)
        other = next(shown.written(name) for name in NAMES if name != self.near)
        return near if at < len(near.ids) else other
