"""Conversations to files: Markdown to read, JSON to take in again with every version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input, Static

from quantchat.errors import QuantchatError
from quantchat.paths import expanded
from quantchat.store.archive import read_archive
from quantchat.store.as_markdown import to_markdown
from quantchat.store.records import Chat
from quantchat.store.transfer import (
    FORMATS,
    Format,
    export_file,
    export_folder,
    file_name,
    free_path,
)
from quantchat.tui.printable import printable
from quantchat.tui.screens.working import WorkingDialog

NAMES: Mapping[Format, str] = {"md": "Markdown", "json": "JSON"}
WORDS: Mapping[Format, str] = {
    "md": "What is shown, to read; it can be imported again.",
    "json": "All versions and figures, to import again.",
}
FOLDER = "quantchat-conversations"
"""Where several go, below the working folder."""


class ExportDialog(WorkingDialog[bool]):
    """True once the files are written."""

    KEYS_TITLE = "Export"
    CSS_PATH = "files.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close without a file"),
        Binding("f7", "other_format", "The other format", priority=True),
    ]

    def __init__(self, chats: Sequence[Chat]) -> None:
        super().__init__()
        self._chats = tuple(chats)
        self._form: Format = "md"

    def compose(self) -> ComposeResult:
        count = len(self._chats)
        what = printable(self._chats[0].title) if count == 1 else f"{count:,} conversations"
        with Vertical(id="box"):
            yield Static(f"Export {what or 'the conversation'}", id="title", markup=False)
            with Horizontal(id="formats"):
                for form in FORMATS:
                    yield Button(form, id=f"form-{form}", compact=True)
            yield Static("", id="said")
            yield Input(str(self._proposed("md")), id="path")
            yield Static("", id="trouble", markup=False)
            with Horizontal(id="ways"):
                yield Button("Export", id="export", variant="primary", compact=True)
                if count == 1:
                    yield Button("Copy as Markdown", id="copy", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    def on_mount(self) -> None:
        self._take("md")
        self.query_one("#path").focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._export()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "export":
            self._export()
        elif event.button.id == "copy":
            self._copy()
        elif event.button.id in ("form-md", "form-json"):
            self._take("md" if event.button.id == "form-md" else "json")
        else:
            self.dismiss(False)

    def action_leave(self) -> None:
        """Close without a file."""
        self.dismiss(False)

    def action_other_format(self) -> None:
        """Markdown or JSON."""
        self._take("json" if self._form == "md" else "md")

    def _take(self, form: Format) -> None:
        self._form = form
        for each in FORMATS:
            button = self.query_one(f"#form-{each}", Button)
            button.variant = "primary" if each == form else "default"
            button.label = f"{'✓' if each == form else ' '} {NAMES[each]}"
        self.query_one("#said", Static).update(WORDS[form])
        field = self.query_one("#path", Input)
        if len(self._chats) == 1 and Path(field.value).suffix[1:] in FORMATS:
            field.value = str(Path(field.value).with_suffix(f".{form}"))

    def _proposed(self, form: Format) -> Path:
        if len(self._chats) > 1:
            return Path.cwd() / FOLDER
        return free_path(Path.cwd(), file_name(self._chats[0], form))

    def _export(self) -> None:
        value = self.query_one("#path", Input).value.strip()
        if not value:
            self._trouble("Name a file.")
            return
        path, form, chats = expanded(value), self._form, self.desk.chats
        ids = [chat.id for chat in self._chats]

        def write() -> str:
            self.desk.writer.flush()
            if len(ids) == 1 and not path.is_dir():
                return str(export_file(chats, ids[0], path))
            written = export_folder(chats, ids, path, form)
            return str(written[0]) if len(written) == 1 else f"{len(written):,} files in {path}"

        def written(where: str) -> None:
            self.notify(f"Exported to {where}")
            self.dismiss(True)

        self.work(write, written, self._failed)

    def _copy(self) -> None:
        chats, chat = self.desk.chats, self._chats[0]

        def copy(text: str) -> None:
            self.desk.copy_text(text, "conversation")
            self.dismiss(True)

        self.work(lambda: to_markdown(read_archive(chats, chat.id)), copy, self._failed)

    def _failed(self, error: QuantchatError) -> None:
        self._trouble(str(error))

    def _trouble(self, text: str) -> None:
        self.query_one("#trouble", Static).update(text)
