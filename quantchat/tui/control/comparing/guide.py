"""Guided mode: what is scored while the left writes, and once more exactly when it has ended.

At most one scoring is in flight. Owns the requests; scores belong to the round.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from quantchat.engine.api import Engine
from quantchat.errors import QuantchatError
from quantchat.events import Failed, Scored
from quantchat.requests import ScoreRequest
from quantchat.tui.control.comparing.rounds import LiveRound

Kind: TypeAlias = Literal["live", "exact", "keep", "probe"]
LEFT, RIGHT = "left", "right"


class Guide:
    """Scorings of one round at a time."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.round: LiveRound | None = None
        self.kind: Kind = "live"
        self.request_id = 0
        """In flight; 0 when nothing is."""
        self._kept = 0
        self._refused = False
        self._probe_at = -1

    @property
    def scoring(self) -> bool:
        """Whether anything but a single token's view is being computed."""
        return bool(self.request_id) and self.kind in ("exact", "keep")

    def follow(self, shown: LiveRound) -> None:
        """Another round is the one to be scored."""
        self.stop()
        self.round, self._kept, self._refused = shown, 0, False

    def push(self) -> None:
        """Score what has been written since, unless a scoring is in flight."""
        shown = self.round
        if shown is None or self.request_id or self._refused:
            return
        first = len(shown.scores)
        if first < len(shown.left.ids):
            self._ask(shown, "live", first=first, base=LEFT)

    def finish(self, *, together: bool) -> None:
        """Everything once more, as an evaluation does."""
        shown = self.round
        self.stop()
        if shown is None or not shown.left.ids:
            return
        self._ask(
            shown,
            "exact",
            first=shown.left.given,
            base=LEFT if together else "",
            kept=0 if together else self._kept,
        )

    def keep(self) -> None:
        """The left's own view, kept for the right, which has no room beside it."""
        shown = self.round
        self.stop()
        if shown is not None and shown.left.ids:
            self._ask(shown, "keep", first=shown.left.given)

    def probe(self, shown: LiveRound, index: int, ids: tuple[int, ...]) -> None:
        """Both models' view of one token; the latest wish wins."""
        same = self.round is shown and self._probe_at == index
        if self.request_id and (self.kind != "probe" or same):
            return
        self.stop()
        self.round, self._probe_at = shown, index
        try:
            self.kind = "probe"
            self.request_id = self.engine.score(
                ScoreRequest(
                    slot=RIGHT,
                    base=LEFT,
                    messages=shown.left.messages,
                    answer_ids=ids,
                    first=index,
                )
            )
        except QuantchatError as error:
            shown.problem = error.message

    def stop(self) -> bool:
        """Give up what is in flight; False when nothing is."""
        if not self.request_id:
            return False
        self.engine.cancel(self.request_id)
        self.request_id = 0
        return True

    def take(self, event: Scored) -> range:
        """Scores came; the tokens that they are about."""
        shown = self.round
        assert shown is not None
        if self.kind == "probe":
            if event.scores:
                shown.probes[self._probe_at] = event.scores[0]
        elif self.kind != "keep":
            shown.put_scores(event.first, event.scores)
            if self.kind == "exact":
                shown.exact_tokens += len(event.scores)
        if event.done:
            if self.kind == "keep":
                self._kept = self.request_id
            self.request_id = 0
            shown.exact = shown.exact or self.kind == "exact"
        return range(event.first, event.first + len(event.scores))

    def failed(self, event: Failed) -> bool:
        """A scoring came to nothing; True where the user should be told."""
        shown = self.round
        assert shown is not None
        shown.problem = event.message
        told = self.kind in ("exact", "keep")
        self._refused = True
        self.request_id = 0
        return told

    def _ask(
        self, shown: LiveRound, kind: Kind, *, first: int, base: str = "", kept: int = 0
    ) -> None:
        try:
            self.kind = kind
            self.request_id = self.engine.score(
                ScoreRequest(
                    slot=LEFT if kind == "keep" else RIGHT,
                    messages=shown.left.messages,
                    answer_ids=tuple(shown.left.ids),
                    first=first,
                    base=base,
                    kept=kept,
                    exact=kind != "live",
                )
            )
        except QuantchatError as error:
            self.request_id = 0
            self._refused = True
            shown.problem = error.message
