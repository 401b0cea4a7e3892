"""The open conversation as a whole: kept at the top, deleted, brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantchat.tui.printable import printable
from quantchat.tui.toasts import take_down_news

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

TITLE_CHARS = 60


class ThisChat:
    """Says what it did; raises StoreError."""

    def __init__(self, app: QuantchatApp) -> None:
        self._app = app

    def pin(self) -> None:
        """Keep it at the top of the list, or not."""
        app, chat = self._app, self._app.conversation.chat
        if chat is None:
            app.notify("There is nothing to pin yet.")
            return
        # As it is now: another instance may have changed it.
        pinned = not app.chats.get(chat.id).pinned
        app.chats.pin(chat.id, pinned)
        app.conversation.renamed(chat.id)
        name = self._name(chat.title)
        app.notify(f"{name} stays at the top." if pinned else f"{name} is pinned no more.")

    def delete(self) -> None:
        """Take it off the list, and begin another one."""
        app, chat = self._app, self._app.conversation.chat
        if chat is None:
            app.notify("There is nothing to delete yet.")
            return
        app.conversation.new()
        app.chats.delete(chat.id)
        take_down_news(app)
        app.notify(f"Deleted {self._name(chat.title)}. /undelete brings it back.")

    def bring_back(self) -> None:
        """What was deleted last is there again, and open unless an answer streams."""
        app = self._app
        chats = app.chats.undelete()
        if not chats:
            app.notify("Nothing was deleted.")
            return
        if not app.conversation.busy:
            app.conversation.open(chats[0].id)
        take_down_news(app)
        many = f"{len(chats):,} conversations" if len(chats) > 1 else self._name(chats[0].title)
        app.notify(f"Brought back {many}.")

    def _name(self, title: str) -> str:
        shown = printable(title)
        cut = shown if len(shown) <= TITLE_CHARS else f"{shown[: TITLE_CHARS - 1]}…"
        return f"“{cut}”" if cut else "The conversation"
