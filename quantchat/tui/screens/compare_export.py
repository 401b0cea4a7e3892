"""Where a comparison goes as files, and in which form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input, Static

from quantchat import paths
from quantchat.comparing.record import Comparison
from quantchat.errors import QuantchatError, UsageError
from quantchat.store.votes import Votes, as_csv
from quantchat.tui.screens.base import AppDialog
from quantchat.tui.screens.dialog import Dialog
from quantchat.tui.widgets.tick_box import TickBox

if TYPE_CHECKING:
    from quantchat.comparing.export import Kind
    from quantchat.tui.app import QuantchatApp

KINDS: tuple[tuple[Kind, str], ...] = (("markdown", "Markdown"), ("json", "JSON"), ("svg", "SVG"))
VOTES_FILE = "quantchat-votes.csv"
Made = Callable[[tuple[tuple[str, str], ...]], Comparison | None]
"""Versions of what is installed to the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What is to be written where."""

    folder: Path
    kinds: tuple[Kind, ...]
    votes: bool
    """All votes, of every pair, as a table."""


class CompareExport(AppDialog[Export | None]):
    """A folder and the kinds of files; None for Escape."""

    KEYS_TITLE = "Exporting a comparison"
    CSS_PATH = "compare_export.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("ctrl+s", "write", "Write", priority=True),
    ]

    def __init__(self, folder: Path | None, *, rounds: int) -> None:
        super().__init__()
        self._folder = folder or paths.data_dir() / "exports"
        self._rounds = rounds

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static("Export", id="title", markup=False)
            yield Input(str(self._folder), id="answer")
            with Horizontal(id="kinds"):
                for kind, title in KINDS:
                    yield TickBox(
                        title, bool(self._rounds), id=f"kind-{kind}", disabled=not self._rounds
                    )
                yield TickBox("all votes (CSV)", not self._rounds, id="kind-votes")
            if not self._rounds:
                yield Static("Nothing was compared yet.", id="hint", markup=False)
            with Horizontal(id="ways"):
                yield Button("Write (enter)", id="write", variant="primary", compact=True)
                yield Button("Close (esc)", id="close", compact=True)

    def on_mount(self) -> None:
        self.query_one("#answer").focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_write()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "write":
            self.action_write()
        else:
            self.action_leave()

    def action_write(self) -> None:
        """Close and write what is ticked."""
        folder = self.query_one("#answer", Input).value.strip()
        kinds = tuple(kind for kind, _ in KINDS if self.query_one(f"#kind-{kind}", TickBox).value)
        votes = self.query_one("#kind-votes", TickBox).value
        if not folder or not (kinds or votes):
            self.notify("Name a folder and tick what is to be written.", severity="warning")
            return
        self.dismiss(Export(folder=paths.expanded(folder), kinds=kinds, votes=votes))

    def action_leave(self) -> None:
        """Close and write nothing."""
        self.dismiss(None)


def write_wish(app: QuantchatApp, votes: Votes, made: Made, wish: Export) -> None:
    """Write what was asked for and say where it is; runs in a thread."""
    from quantchat.comparing.export import write_export
    from quantchat.comparing.versions import versions

    try:
        written: list[Path] = []
        comparison = made(versions()) if wish.kinds else None
        if comparison is not None:
            written += write_export(comparison, wish.folder, kinds=wish.kinds)
        if wish.votes:
            written.append(_write_votes(votes, wish.folder))
    except QuantchatError as error:
        dialog = Dialog("Not exported", error.message, error.hint)
        app.call_from_thread(app.push_screen, dialog)
        return
    if written:
        names = "\n".join(path.name for path in written)
        app.notify(f"{wish.folder}\n{names}", title="Exported", timeout=10)


def _write_votes(votes: Votes, folder: Path) -> Path:
    """The table of votes, in place of the one from before; raises UsageError."""
    path = folder / VOTES_FILE
    text = as_csv(votes.all())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.part")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written: {error.strerror or error}", hint="name another folder"
        ) from error
    return path
