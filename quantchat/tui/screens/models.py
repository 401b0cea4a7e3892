"""The model picker: what is on disk, what can be fetched, in one table."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import DataTable, Input, Static

from quantchat.errors import QuantchatError
from quantchat.tui import figures
from quantchat.tui.control.library import ModelRow
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.screens.base import AppDialog
from quantchat.tui.screens.dialog import Dialog, Way
from quantchat.tui.widgets.bars import Activity, Key, KeyBar

KEYS = (
    Key(key="enter", text="load or fetch", action="screen.take"),
    Key(text="delete", action="screen.delete"),
    Key(text="cancel, close", action="screen.leave"),
)


class ModelsScreen(AppDialog[None]):
    """Typing filters, or names a path or repository that is not in the table."""

    KEYS_TITLE = "Models"
    CSS_PATH = "lists.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel a download, else close"),
        Binding("up", "move(-1)", "The model above", id="up", show=False, priority=True),
        Binding("down", "move(1)", "The model below", id="down", show=False, priority=True),
        Binding("f8", "delete", "Delete from disk", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[ModelRow] = []
        self._shown: list[ModelRow] = []
        self._fetched = 0

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static("Models", id="title")
            yield Input(placeholder="Filter, or type a path or owner/name", id="filter")
            yield DataTable(cursor_type="row", zebra_stripes=False, id="table")
            yield Static(id="about")
            yield Activity(id="activity")
            yield KeyBar(KEYS, id="keys")

    def on_mount(self) -> None:
        self.query_one("#activity").display = False
        self._fetched = self.desk.transfers.arrived
        table = self.query_one(DataTable)
        for label, width in (("", 1), ("name", 16), ("size", 9), ("params", 7), ("licence", 20)):
            table.add_column(label, width=width, key=label or "mark")
        table.can_focus = False
        self.query_one("#filter").focus()
        self.set_interval(0.15, self._tick)
        self._read()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._fill()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_take()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._describe()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        row = self._chosen()
        if row is not None:
            self._take(row.name)

    def action_leave(self) -> None:
        """Cancel a running fetch first, then close."""
        if self.desk.loads.state == "fetching":
            self.desk.loads.cancel()
        else:
            self.dismiss(None)

    def action_take(self) -> None:
        """Load or fetch the model under the cursor, or what was typed where none is left."""
        row = self._chosen()
        typed = self.query_one("#filter", Input).value.strip()
        if row is not None:
            self._take(row.name)
        elif typed:
            self._take(typed)

    def action_move(self, step: int) -> None:
        """Move in the table while the filter keeps the focus."""
        table = self.query_one(DataTable)
        table.move_cursor(row=table.cursor_row + step)

    def action_delete(self) -> None:
        """Delete a fetched model after asking."""
        row = self._chosen()
        if row is None or not row.on_disk:
            self.notify("Nothing of it is on disk.")
            return
        if not row.removable:
            self.notify("It was not fetched by quantchat; delete it where it lies.")
            return
        info = self.desk.loads.info
        loaded = (
            " It is loaded now and answers until the app is closed."
            if (info is not None and info.model == row.name)
            else ""
        )
        ways = (
            Way(key="d", label="Delete", result="delete", danger=True),
            Way(key="c", label="Keep", result=""),
        )
        question = f"This frees {figures.size(row.size_bytes)}.{loaded}"

        def answer(result: str | None) -> None:
            if result == "delete":
                self.run_worker(lambda: self._remove(row), thread=True, exit_on_error=False)

        self.app.push_screen(Dialog(f"Delete {row.title}?", question, "", ways), answer)

    def _remove(self, row: ModelRow) -> None:
        try:
            freed = self.desk.library.remove(row.name)
        except QuantchatError as error:
            self.app.notify(str(error), title="Not deleted", severity="error")
            return
        self.app.notify(f"Deleted {row.title}: {figures.size(freed)} are free again.")
        self.app.call_from_thread(self._read)

    def _take(self, name: str) -> None:
        row = next((row for row in self._rows if row.name == name), None)
        self.desk.choose_model(name)
        if row is not None and row.on_disk:
            self.dismiss(None)

    def _read(self) -> None:
        def work() -> None:
            try:
                rows = self.desk.library.rows()
            except QuantchatError as error:
                self.app.notify(str(error), title="Models could not be listed", severity="error")
                return
            self.app.call_from_thread(self._set_rows, rows)

        self.run_worker(work, thread=True, exit_on_error=False)

    def _set_rows(self, rows: list[ModelRow]) -> None:
        if self.is_mounted:
            self._rows = rows
            self._fill()

    def _fill(self) -> None:
        words = self.query_one("#filter", Input).value.lower().split()
        self._shown = [
            row
            for row in self._rows
            if all(word in f"{row.name} {row.title} {row.note}".lower() for word in words)
        ]
        palette = palette_from(self.app.theme_variables)
        table = self.query_one(DataTable)
        at = table.cursor_row
        table.clear()
        for row in self._shown:
            style = palette.strong if row.on_disk else palette.muted
            mark = Content.styled(
                "●" if row.on_disk else "○", palette.success if row.on_disk else palette.faint
            )
            size = f"{figures.size(row.size_bytes):>9}" if row.size_bytes else ""
            name = Content.styled(row.name, style)
            count = f"{figures.parameters(row.parameters):>7}"
            licence = row.license + (" (gated)" if row.gated else "")
            table.add_row(mark, name, size, count, Content.styled(licence, palette.muted))
        table.move_cursor(row=min(at, max(0, len(self._shown) - 1)))
        self._describe()

    def _chosen(self) -> ModelRow | None:
        at = self.query_one(DataTable).cursor_row
        return self._shown[at] if 0 <= at < len(self._shown) else None

    def _describe(self) -> None:
        row = self._chosen()
        about = self.query_one("#about", Static)
        typed = self.query_one("#filter", Input).value.strip()
        if row is None:
            about.update(Content(f"Enter looks for {typed}" if typed else ""))
            return
        info = self.desk.loads.info
        loaded = info is not None and info.model == row.name
        where = "loaded" if loaded else "on disk" if row.on_disk else "Enter fetches it"
        about.update(Content(" · ".join(part for part in (row.title, row.note, where) if part)))

    def _tick(self) -> None:
        text, share = self.desk.status.activity()
        self.query_one("#activity", Activity).show(text, share)
        if self.desk.transfers.arrived != self._fetched:
            self._fetched = self.desk.transfers.arrived
            self._read()
