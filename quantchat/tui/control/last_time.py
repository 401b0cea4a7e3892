"""What the last start left: the open conversation, what was typed, what is to be erased."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from quantchat.errors import StoreError
from quantchat.tui.screens.dialog import Dialog

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

log = logging.getLogger(__name__)

BIN_S = 30 * 86_400.0
"""How long deleted conversations can be brought back."""


class LastTime:
    """Takes up what the database holds of earlier."""

    def __init__(self, app: QuantchatApp) -> None:
        self._app = app

    def restore(self) -> None:
        """Open the latest conversation, and say where an answer of it was cut off."""
        app = self._app
        try:
            recovered = app.chats.recover()
            recent = app.chats.latest()
            if recent is not None:
                app.conversation.open(recent.id)
            if recovered:
                app.notify(
                    f"The last answer was cut off; {app.key_name('screen.go_on')} continues it.",
                    timeout=8,
                )
            history = [
                turn.content
                for chat in reversed(app.chats.list(limit=20))
                for turn in app.chats.path(chat.id)
                if turn.role == "user"
            ]
            app.chat_screen.prompt.remember(history)
        except StoreError as error:
            log.exception("conversations could not be read")
            app.push_screen(Dialog("Conversations could not be read", error.message, error.hint))

    def empty_bin(self) -> None:
        """Erase what was deleted long ago."""
        try:
            self._app.chats.purge(older_than_s=BIN_S)
        except StoreError as error:
            log.warning("deleted conversations are not erased: %s", error)
