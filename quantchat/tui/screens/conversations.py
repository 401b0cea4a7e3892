"""All conversations: open, search in what was said, rename, delete with undo."""

from __future__ import annotations

import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from quantchat.store.records import Chat
from quantchat.tui import figures
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.screens.base import AppDialog
from quantchat.tui.screens.dialog import Ask
from quantchat.tui.widgets.bars import Key, KeyBar

KEYS = (
    Key(key="enter", text="open"),
    Key(key="f2", text="rename", action="screen.rename"),
    Key(key="f8", text="delete", action="screen.delete"),
    Key(key="f9", text="undo", action="screen.undo"),
    Key(key="f4", text="pin", action="screen.pin"),
    Key(key="esc", text="close", action="screen.leave"),
)


class ConversationsScreen(AppDialog[None]):
    """Typing searches, arrows move, Enter opens."""

    CSS_PATH = "lists.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("down", "move(1)", show=False, priority=True),
        Binding("f2", "rename", "Rename", priority=True),
        Binding("f8", "delete", "Delete", priority=True),
        Binding("f9", "undo", "Undo the deletion", priority=True),
        Binding("f4", "pin", "Keep at the top", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._chats: list[Chat] = []
        self._deleted: list[int] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static("Conversations", id="title")
            yield Input(placeholder="Search titles and messages", id="filter")
            yield OptionList(id="list")
            yield KeyBar(KEYS, id="keys")

    def on_mount(self) -> None:
        self.query_one("#filter").focus()
        self._fill()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._fill()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._open(self._chosen())

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._open(self._chats[event.option_index] if self._chats else None)

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)

    def action_move(self, step: int) -> None:
        """Move in the list while the search keeps the focus."""
        options = self.query_one("#list", OptionList)
        if step < 0:
            options.action_cursor_up()
        else:
            options.action_cursor_down()

    def action_rename(self) -> None:
        """Ask for another title."""
        chat = self._chosen()
        if chat is None:
            return

        def rename(title: str | None) -> None:
            if title:
                self.desk.guarded(lambda: self._renamed(chat, title))

        self.app.push_screen(Ask("Rename the conversation", chat.title), rename)

    def action_delete(self) -> None:
        """Take the conversation off the list; F9 brings it back."""
        chat = self._chosen()
        if chat is None:
            return
        conversation = self.desk.conversation
        if conversation.chat is not None and conversation.chat.id == chat.id:
            conversation.new()
        self.desk.guarded(lambda: self.desk.chats.delete(chat.id))
        self._deleted.append(chat.id)
        self.notify(f"Deleted {chat.title or 'the conversation'!r}. F9 brings it back.")
        self._fill()

    def action_undo(self) -> None:
        """Bring the conversation deleted last back."""
        if self._deleted:
            chat_id = self._deleted.pop()
            self.desk.guarded(lambda: bool(self.desk.chats.restore(chat_id)))
            self._fill()

    def action_pin(self) -> None:
        """Keep it at the top, or not."""
        chat = self._chosen()
        if chat is not None:
            self.desk.guarded(lambda: bool(self.desk.chats.pin(chat.id, not chat.pinned)))
            self._fill()

    def _renamed(self, chat: Chat, title: str) -> None:
        self.desk.chats.rename(chat.id, title)
        self.desk.conversation.renamed(chat.id)
        self._fill()

    def _chosen(self) -> Chat | None:
        at = self.query_one("#list", OptionList).highlighted
        return self._chats[at] if at is not None and at < len(self._chats) else None

    def _open(self, chat: Chat | None) -> None:
        if chat is not None:
            self.dismiss(None)
            self.desk.guarded(lambda: self.desk.conversation.open(chat.id))

    def _fill(self) -> None:
        search = self.query_one("#filter", Input).value
        options = self.query_one("#list", OptionList)
        at = options.highlighted or 0

        def read() -> None:
            self._chats = list(self.desk.chats.list(search=search))

        self.desk.guarded(read)
        options.clear_options()
        if not self._chats:
            text = "Nothing found." if search else "No conversations yet."
            options.add_option(Option(text, disabled=True))
            return
        options.add_options([Option(self._line(chat)) for chat in self._chats])
        options.highlighted = min(at, len(self._chats) - 1)

    def _line(self, chat: Chat) -> Content:
        palette = palette_from(self.app.theme_variables)
        width = max(20, min(84, self.app.size.width - 8))
        right = " · ".join(
            part
            for part in (figures.model_name(chat.model), chat.scheme, ago(chat.updated_s))
            if part
        )
        right = right[-(width // 2) :]
        room = width - len(right) - 3
        mark = "★ " if chat.pinned else ""
        title = Content(mark + (chat.title or "untitled")).truncate(room, ellipsis=True)
        gap = " " * max(1, width - title.cell_length - len(right))
        return Content.assemble(title, gap, Content.styled(right, palette.muted))


def ago(then_s: float) -> str:
    """How long ago, in one word."""
    seconds = max(0.0, time.time() - then_s)
    for limit, unit, name in ((3600, 60, "min"), (86_400, 3600, "h"), (7 * 86_400, 86_400, "d")):
        if seconds < limit:
            return f"{int(seconds // unit)} {name}" if seconds >= unit else "now"
    return time.strftime("%Y-%m-%d", time.localtime(then_s))
