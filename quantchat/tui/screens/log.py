"""The end of the log file, as it is written: for those who want to know more than a dialog says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static, TextArea

from quantchat import paths
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.screens.base import AppDialog
from quantchat.tui.widgets.bars import Key, KeyBar

TAIL_BYTES = 200_000
LINE_CHARACTERS = 2000
KEYS = (
    Key(text="copy", action="screen.copy"),
    Key(text="read again", action="screen.read"),
    Key(text="close", action="screen.leave"),
)


class LogScreen(AppDialog[None]):
    """Scrolls; what is selected can be copied with ctrl+c."""

    KEYS_TITLE = "Log"
    CSS_PATH = ["lists.tcss", "log.tcss"]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "Close"),
        Binding("r", "read", "Read it again"),
        Binding("c", "copy", "Copy all that is shown"),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(id="title", markup=False)
            yield TextArea("", read_only=True, show_line_numbers=False, soft_wrap=True, id="log")
            yield KeyBar(KEYS, id="keys")

    def on_mount(self) -> None:
        self.query_one("#log").focus()
        self.action_read()

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)

    def action_read(self) -> None:
        """Read the end of the file again."""
        path = paths.log_file()
        palette = palette_from(self.app.theme_variables)
        self.query_one("#title", Static).update(
            Content.assemble(
                Content.styled("Log", palette.accent),
                Content.styled(f"  {path}", palette.muted),
            )
        )

        def work() -> None:
            self.app.call_from_thread(self._set, log_tail(path))

        self.run_worker(work, thread=True, exit_on_error=False)

    def action_copy(self) -> None:
        """All that is shown to the clipboard."""
        self.desk.copy_text(self.query_one("#log", TextArea).text, "log")

    def _set(self, text: str) -> None:
        if self.is_mounted:
            area = self.query_one("#log", TextArea)
            area.load_text(text)
            area.move_cursor(area.document.end)
            self.call_after_refresh(lambda: area.scroll_end(animate=False))


def log_tail(path: Path) -> str:
    """The last lines of a log, without what could move a terminal's cursor."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            data = file.read(TAIL_BYTES)
    except OSError as error:
        return f"The log cannot be read: {error.strerror or error}"
    lines = data.decode("utf-8", "replace").splitlines()
    if size > TAIL_BYTES:
        lines = lines[1:]
    clean = ("".join(c if c.isprintable() else " " for c in line) for line in lines)
    return "\n".join(line[:LINE_CHARACTERS] for line in clean) or "The log is empty."
