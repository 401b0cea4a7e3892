"""Conversations out of files: a path is typed, or chosen in a list of folders and files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from quantchat.errors import QuantchatError, StoreError
from quantchat.paths import expanded
from quantchat.store.records import Chat
from quantchat.store.transfer import import_files
from quantchat.tui import figures
from quantchat.tui.printable import printable
from quantchat.tui.screens.working import WorkingDialog

ENDINGS = (".md", ".markdown", ".json")
ENTRIES_MAX = 1000
"""Shown of one folder."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder or a file that may hold a conversation."""

    path: Path
    name: str
    folder: bool
    size_bytes: int


def entries(folder: Path) -> list[Entry]:
    """The folder above, folders, then files with an ending of ours; raises StoreError."""
    try:
        with os.scandir(folder) as scanned:
            rows = [_entry(each) for each in scanned if not each.name.startswith(".")]
    except OSError as error:
        raise StoreError(f"{folder}: cannot be read: {error.strerror or error}") from error
    found = [row for row in rows if row is not None]
    found.sort(key=lambda each: (not each.folder, each.name.casefold()))
    return [Entry(folder.parent, "../", True, 0), *found[:ENTRIES_MAX]]


def _entry(each: os.DirEntry[str]) -> Entry | None:
    """None for other files, and for what vanished or links to itself."""
    try:
        if each.is_dir():
            return Entry(Path(each.path), f"{each.name}/", True, 0)
        if each.name.lower().endswith(ENDINGS) and each.is_file():
            return Entry(Path(each.path), each.name, False, each.stat().st_size)
    except OSError:
        return None
    return None


class ImportDialog(WorkingDialog[Sequence[Chat] | None]):
    """The conversations that came in; None for Escape."""

    KEYS_TITLE = "Import"
    CSS_PATH = "files.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close without a file"),
        Binding("down", "to_list", "To the list of files", show=False),
    ]

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self._folder = (folder or Path.cwd()).absolute()
        self._entries: list[Entry] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static("Import a conversation", id="title")
            yield Input(placeholder="A file of quantchat: Markdown or JSON", id="path")
            yield Static("", id="said", markup=False)
            yield OptionList(id="choices")
            yield Static("", id="trouble", markup=False)
            with Horizontal(id="ways"):
                yield Button("Import", id="import", variant="primary", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    def on_mount(self) -> None:
        self.query_one("#path").focus()
        self._go(self._folder)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._take()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "import":
            self._take()
        else:
            self.dismiss(None)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        entry = self._entries[event.option_index]
        if entry.folder:
            self._go(entry.path)
        else:
            self._import(entry.path)

    def action_leave(self) -> None:
        """Close without a file."""
        self.dismiss(None)

    def action_to_list(self) -> None:
        """From the field to the files."""
        self.query_one("#choices").focus()

    def _take(self) -> None:
        value = self.query_one("#path", Input).value.strip()
        if not value:
            self._say("Name a file, or choose one below.")
            return
        path = self._folder / expanded(value)
        if path.is_dir():
            self._go(path)
        else:
            self._import(path)

    def _go(self, folder: Path) -> None:
        def show(found: list[Entry]) -> None:
            self._folder, self._entries = folder, found
            self._say("")
            files = sum(not each.folder for each in found)
            self.query_one("#said", Static).update(
                f"{printable(str(folder))} · {files:,} {'file' if files == 1 else 'files'}"
            )
            options = self.query_one("#choices", OptionList)
            options.clear_options()
            options.add_options([Option(_line(each)) for each in found])
            first = next((at for at, each in enumerate(found) if not each.folder), 0)
            options.highlighted = first if found else None

        folder = Path(os.path.normpath(folder))
        self.work(lambda: entries(folder), show, self._failed)

    def _import(self, path: Path) -> None:
        def imported(chats: Sequence[Chat]) -> None:
            title = printable(chats[0].title)
            self.notify(f"Imported “{title}”" if title else "Imported a conversation")
            self.dismiss(chats)

        self.work(lambda: import_files(self.desk.chats, [path]), imported, self._failed)

    def _failed(self, error: QuantchatError) -> None:
        self._say(str(error))

    def _say(self, text: str) -> None:
        self.query_one("#trouble", Static).update(text)


def _line(entry: Entry) -> Content:
    size = "" if entry.folder else f"  {figures.size(entry.size_bytes)}"
    return Content.assemble(printable(entry.name), Content.styled(size, "dim"))
