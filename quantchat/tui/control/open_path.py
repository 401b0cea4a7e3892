"""What is open: a conversation, the turns that are shown of it, the answer that streams."""

from __future__ import annotations

from quantchat.store.records import Chat
from quantchat.store.records import Turn as StoredTurn
from quantchat.tui.control.answering import Answering


class OpenPath:
    """The active turns of a conversation, from the first to the last."""

    def __init__(self) -> None:
        self.chat: Chat | None = None
        self.path: list[StoredTurn] = []
        self.answering: Answering | None = None
        self.waiting = False
        """The last question is sent as soon as the model is ready."""

    @property
    def busy(self) -> bool:
        """Whether an answer streams or a question waits."""
        return self.answering is not None or self.waiting

    def last_answer(self) -> StoredTurn | None:
        """The last turn of the model."""
        return next((turn for turn in reversed(self.path) if turn.role == "assistant"), None)

    def text_of(self, turn_id: int) -> str:
        """The text of a turn of the path, or of the one that streams."""
        if self.answering is not None and self.answering.turn.id == turn_id:
            return self.answering.whole
        turn = self.turn_of(turn_id)
        return turn.content if turn is not None else ""

    def turn_of(self, turn_id: int) -> StoredTurn | None:
        """A turn of the path."""
        return next((turn for turn in self.path if turn.id == turn_id), None)
