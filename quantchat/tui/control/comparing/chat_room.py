"""The chat's own model beside a comparison: it gives its room where that helps, and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantchat.tui.control.loads import SLOT

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp


class ChatRoom:
    """Implements `comparing.pair.ChatModel` over the app's main slot."""

    def __init__(self, app: QuantchatApp) -> None:
        self.app = app

    def lend(self) -> bool:
        """Unload the chat's model; False where there is none, or it is at work."""
        app = self.app
        talk = app.conversation
        if app.loads.info is None or app.loads.busy or talk.answering is not None or talk.waiting:
            return False
        app.engine.unload(SLOT)
        return True

    @property
    def gone(self) -> bool:
        """Whether its memory is given back."""
        return self.app.loads.info is None

    def give_back(self) -> None:
        """Bring it in again, unless something else is there."""
        loads = self.app.loads
        if loads.info is None and not loads.busy:
            loads.want(self.app.preferences.load_request())
