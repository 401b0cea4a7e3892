"""Answers whose conversation was left while they streamed: they go to the store alone."""

from __future__ import annotations

from quantchat.events import Done, Failed
from quantchat.store.records import TurnState
from quantchat.tui.control.answering import Answering
from quantchat.tui.control.writer import TurnWriter
from quantchat.tui.figures import ENDINGS, kept
from quantchat.tui.messages import Item, TokenRun

CLOSED = "quantchat was closed while it streamed"


class LeftAnswers:
    """Writes what is still on its way."""

    def __init__(self, writer: TurnWriter) -> None:
        self._writer = writer
        self._answers: dict[int, Answering] = {}

    def add(self, answering: Answering) -> None:
        """One more, until it ends."""
        self._answers[answering.request_id] = answering

    def get(self, request_id: int) -> Answering | None:
        """The answer to a request."""
        return self._answers.get(request_id)

    def take(self, request_id: int | None, item: Item) -> bool:
        """Something of a request; False where it is none of these."""
        answering = None if request_id is None else self._answers.get(request_id)
        if answering is None:
            return False
        if isinstance(item, TokenRun):
            answering.take(item.text, len(item.ids))
        elif isinstance(item, Done):
            whole = item.finish_reason == "stop"
            figures, note = answering.figures(kept(item.metrics)), ENDINGS[item.finish_reason]
            self._end(answering, "complete" if whole else "stopped", figures, note)
        elif isinstance(item, Failed):
            self._end(answering, "failed", answering.figures(None), item.message)
        return True

    def end_all(self, state: TurnState, note: str) -> None:
        """Nothing more comes: what streams is kept as far as it came."""
        for answering in list(self._answers.values()):
            self._end(answering, state, answering.figures(None), note)

    def _end(
        self,
        answering: Answering,
        state: TurnState,
        figures: dict[str, float | int] | None,
        note: str,
    ) -> None:
        self._writer.finish(answering.turn.id, state, answering.whole, figures, note)
        del self._answers[answering.request_id]
