"""All conversations: open, search in what was said, tag, rename, pin, delete with undo, export.

Owns the keys and the pages of the list. Its look belongs to `widgets.chat_list`, searching to the
store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.timer import Timer
from textual.widgets import Input, Static

from quantchat.errors import QuantchatError
from quantchat.store.finding import Page, all_tags, find
from quantchat.store.records import Chat
from quantchat.store.search import parsed
from quantchat.store.tags import with_changes
from quantchat.tui.keymap import key_of, long_key
from quantchat.tui.printable import printable
from quantchat.tui.screens.dialog import Ask
from quantchat.tui.screens.export import ExportDialog
from quantchat.tui.screens.importing import ImportDialog
from quantchat.tui.screens.tags import TagChange, TagsDialog
from quantchat.tui.screens.working import WorkingDialog
from quantchat.tui.toasts import take_down_news
from quantchat.tui.widgets.bars import Key, KeyBar
from quantchat.tui.widgets.chat_list import ChatList

PAGE_ROWS = 120
"""A page with what was found in each takes some 20 ms of a core."""
PAUSE_S = 0.06
"""After a key, before what is typed is searched for."""
KEYS = (
    Key(key="enter", text="open"),
    Key(key="tab", text="mark", action="screen.mark"),
    Key(key="f2", text="rename", action="screen.rename"),
    Key(key="f4", text="pin", action="screen.pin"),
    Key(key="f6", text="tags", action="screen.tags"),
    Key(key="esc", text="close", action="screen.leave"),
    Key(key="f1", text="help", action="app.help"),
)
MORE_KEYS = (
    Key(key="f8", text="delete", action="screen.delete"),
    Key(key="f9", text="undo", action="screen.undo"),
    Key(key="f7", text="export", action="screen.export"),
    Key(key="f3", text="import", action="screen.import_files"),
    Key(key="^a", text="mark all", action="screen.mark_all"),
)


class ConversationsScreen(WorkingDialog[None]):
    """Typing searches, arrows move, Enter opens."""

    KEYS_TITLE = "Conversations"
    CSS_PATH = ["lists.tcss", "conversations.tcss"]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close, or take the marks away"),
        Binding("up", "move(-1)", "Up", show=False, priority=True),
        Binding("down", "move(1)", "Down", show=False, priority=True),
        Binding("pageup", "page(-1)", "A page up", show=False, priority=True),
        Binding("pagedown", "page(1)", "A page down", show=False, priority=True),
        Binding("ctrl+home", "to_end(-1)", "To the first", show=False, priority=True),
        Binding("ctrl+end", "to_end(1)", "To the last", show=False, priority=True),
        Binding("tab", "mark", "Mark, and go on to the next", priority=True),
        Binding("ctrl+a", "mark_all", "Mark all that are listed, or none", priority=True),
        Binding("f2", "rename", "Rename", priority=True),
        Binding("f3", "import_files", "Import a file", priority=True),
        Binding("f4", "pin", "Keep at the top, or not", priority=True),
        Binding("f6", "tags", "Tags", priority=True),
        Binding("f7", "export", "Export as Markdown or JSON", priority=True),
        Binding("f8", "delete", "Delete", priority=True),
        Binding("f9", "undo", "Undo the last deletion", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0
        """Number of the latest search; earlier ones are given up."""
        self._paging = False
        self._pause: Timer | None = None
        self._filled = False
        """Whether the list is that of what is typed."""
        self._then: Callable[[], None] | None = None
        """A key pressed before the list was filled."""

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static("Conversations", id="title", markup=False)
            yield Input(placeholder="Search titles and messages; #tag for a tag", id="filter")
            yield ChatList(id="list")
            yield KeyBar(KEYS, id="keys")
            yield KeyBar(MORE_KEYS, id="more-keys")

    @property
    def rows(self) -> ChatList:
        """The list."""
        return self.query_one("#list", ChatList)

    def on_mount(self) -> None:
        self.query_one("#filter").focus()
        chat = self.desk.conversation.chat
        self.rows.open_id = None if chat is None else chat.id
        self._fill(go_to=self.rows.open_id)

    def on_screen_resume(self) -> None:
        self.query_one("#filter").focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self._pause is not None:
            self._pause.stop()
        self._filled = False
        self._asked += 1
        self._pause = self.set_timer(PAUSE_S, self._search)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()

        def open_current() -> None:
            if self.rows.current is not None:
                self._open(self.rows.current)

        self._once_filled(open_current)

    def on_chat_list_chosen(self, event: ChatList.Chosen) -> None:
        event.stop()
        self._open(event.chat)

    def on_chat_list_marked(self, event: ChatList.Marked) -> None:
        event.stop()
        self._say_title()

    def on_chat_list_near_end(self, event: ChatList.NearEnd) -> None:
        event.stop()
        self._more()

    def action_leave(self) -> None:
        """Close; with marks, take them away first."""
        if self.rows.marked:
            self.rows.unmark()
        else:
            self.dismiss(None)

    def action_move(self, step: int) -> None:
        """Move in the list while the search keeps the focus."""
        self.rows.move_to(self.rows.cursor + step)

    def action_page(self, step: int) -> None:
        """Move by a page."""
        self.rows.move_to(self.rows.cursor + step * max(1, self.rows.size.height - 2))

    def action_to_end(self, step: int) -> None:
        """To the first or the last that is known."""
        self.rows.move_to(0 if step < 0 else len(self.rows.found) - 1)

    def action_mark(self) -> None:
        """Mark the row, and go on to the next."""
        self._once_filled(self._mark)

    def action_mark_all(self) -> None:
        """Mark all rows, or none."""
        self._once_filled(self.rows.mark_all)

    def action_rename(self) -> None:
        """Ask for another title."""
        self._once_filled(self._rename)

    def _rename(self) -> None:
        chat = self.rows.current
        if chat is None:
            return

        def rename(title: str | None) -> None:
            if title:
                self._change(lambda: [self.desk.chats.rename(chat.id, title)])

        self.app.push_screen(Ask("Rename the conversation", chat.title), rename)

    def action_pin(self) -> None:
        """Keep them at the top, or not."""
        self._once_filled(self._pin)

    def _pin(self) -> None:
        chats = self.rows.chosen
        pinned = not all(chat.pinned for chat in chats)
        store = self.desk.chats
        if chats:
            self._change(lambda: [store.pin(chat.id, pinned) for chat in chats])

    def action_tags(self) -> None:
        """Add tags and take tags away."""
        self._once_filled(self._tags)

    def _tags(self) -> None:
        chats = self.rows.chosen
        if not chats:
            return

        def change(wanted: TagChange | None) -> None:
            if wanted is not None:
                self._change(lambda: self._tagged(chats, wanted))

        def ask(known: dict[str, int]) -> None:
            self.app.push_screen(TagsDialog(chats, known), change)

        self.work(lambda: all_tags(self.desk.chats.database), ask)

    def action_delete(self) -> None:
        """Take them off the list; undo brings them back."""
        self._once_filled(self._delete)

    def _delete(self) -> None:
        chats = self.rows.chosen
        if not chats:
            return
        conversation = self.desk.conversation
        ids = [chat.id for chat in chats]
        if conversation.chat is not None and conversation.chat.id in ids:
            conversation.new()
        said = _counted(chats)

        def deleted(_: None) -> None:
            self.rows.marked.clear()
            self._fill()
            key = long_key(key_of(self.app, type(self), "undo"))
            take_down_news(self.app)
            self.notify(f"Deleted {said}. {key} brings back what was deleted last.")

        self.work(lambda: self.desk.chats.delete(*ids), deleted)

    def action_undo(self) -> None:
        """Bring back what was deleted last."""

        def restored(chats: Sequence[Chat]) -> None:
            if not chats:
                self.notify("Nothing was deleted.")
                return
            self._fill(go_to=chats[0].id)
            take_down_news(self.app)
            self.notify(f"Brought back {_counted(chats)}.")

        self.work(self.desk.chats.undelete, restored)

    def action_export(self) -> None:
        """As Markdown or JSON, each into a file of its own."""
        self._once_filled(self._export)

    def _export(self) -> None:
        chats = self.rows.chosen
        if chats:
            self.app.push_screen(ExportDialog(chats), lambda _: self.rows.unmark())

    def action_import_files(self) -> None:
        """Take in conversations from a file."""

        def imported(chats: Sequence[Chat] | None) -> None:
            if chats:
                self.query_one("#filter", Input).value = ""
                self._fill(go_to=chats[0].id)

        self.app.push_screen(ImportDialog(), imported)

    def _once_filled(self, do: Callable[[], None]) -> None:
        """Do it with the list of what is typed: a quick hand is ahead of the search."""
        if self._filled:
            do()
        else:
            self._then = do

    def _mark(self) -> None:
        self.rows.toggle()
        self.action_move(1)

    def _tagged(self, chats: Sequence[Chat], wanted: TagChange) -> list[Chat]:
        store = self.desk.chats
        # As they are now, not as they were listed: another instance may have changed them.
        fresh = [store.get(chat.id) for chat in chats]
        return [
            store.configure(chat.id, tags=with_changes(chat.tags, wanted.add, wanted.remove))
            for chat in fresh
        ]

    def _change(self, do: Callable[[], Sequence[Chat]]) -> None:
        def changed(chats: Sequence[Chat]) -> None:
            for chat in chats:
                self.desk.conversation.renamed(chat.id)
            self._fill()

        self.work(do, changed)

    def _open(self, chat: Chat) -> None:
        self.dismiss(None)
        self.desk.guarded(lambda: self.desk.conversation.open(chat.id))

    def _search(self) -> None:
        self.rows.cursor = 0
        self._fill(keep=False)

    def _fill(self, *, go_to: int | None = None, keep: bool = True) -> None:
        """Read the list anew; with `keep` as many rows as there are, so that the view stays."""
        self._asked += 1
        asked, text = self._asked, self.query_one("#filter", Input).value
        limit = max(PAGE_ROWS, len(self.rows.found)) if keep else PAGE_ROWS

        def read() -> Page:
            return find(
                self.desk.chats.database, text, limit=limit, unwanted=lambda: asked != self._asked
            )

        def fill(page: Page) -> None:
            if asked != self._asked:
                return
            self._paging = False
            empty = "Nothing found." if text.strip() else "No conversations yet."
            if not keep:
                self.rows.found = []
            self.rows.show(page.found, page.total, terms=parsed(text).terms, empty=empty)
            if go_to is not None:
                self.rows.go_to(go_to)
            self._say_title()
            self._filled = True
            then, self._then = self._then, None
            if then is not None:
                then()

        def failed(error: QuantchatError) -> None:
            self._filled = True
            self.tell(error)

        self.work(read, fill, failed)

    def _more(self) -> None:
        rows = self.rows
        if self._paging or len(rows.found) >= rows.total:
            return
        self._paging = True
        asked, text = self._asked, self.query_one("#filter", Input).value
        offset = len(rows.found)

        def read() -> Page:
            return find(
                self.desk.chats.database,
                text,
                limit=PAGE_ROWS,
                offset=offset,
                unwanted=lambda: asked != self._asked,
            )

        def extend(page: Page) -> None:
            if asked == self._asked:
                self._paging = False
                rows.extend(page.found)
                rows.total = page.total if page.found else len(rows.found)

        self.work(read, extend)

    def _say_title(self) -> None:
        rows = self.rows
        said = "found" if self.query_one("#filter", Input).value.strip() else ""
        parts = ["Conversations", f"{rows.total:,} {said}".strip()]
        if rows.marked:
            parts.append(f"{len(rows.marked):,} marked")
        self.query_one("#title", Static).update(" · ".join(parts))


def _counted(chats: Sequence[Chat]) -> str:
    if len(chats) > 1:
        return f"{len(chats):,} conversations"
    title = printable(chats[0].title)
    return f"“{title}”" if title else "the conversation"
