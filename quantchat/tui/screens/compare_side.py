"""Who stands at a side: a model, a scheme with what it costs here, a KV precision."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import DataTable, Static

from quantchat.errors import QuantchatError
from quantchat.settings.schema import spec_of
from quantchat.tui import figures
from quantchat.tui.control.comparing.side import Choice, Side
from quantchat.tui.control.library import ModelRow
from quantchat.tui.control.schemes import Held, SchemeRow
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.screens.base import AppDialog
from quantchat.tui.screens.dialog import Ask
from quantchat.tui.screens.schemes import COLUMNS, about_lines, row_cells
from quantchat.tui.widgets.bars import Key, KeyBar
from quantchat.tui.widgets.painted import Painted
from quantchat.tui.widgets.turn import click

KEYS = (
    Key(key="enter", text="take it", action="screen.take"),
    Key(text="models and schemes", action="screen.other_table"),
    Key(text="KV precision", action="screen.kv(1)"),
    Key(text="a path or name", action="screen.path"),
    Key(text="close", action="screen.leave"),
)


class KvLine(Painted):
    """KV precisions in a row, the chosen one marked."""

    def __init__(self, chosen: str) -> None:
        super().__init__(id="kv")
        self._chosen = chosen

    def show(self, chosen: str) -> None:
        """Another one."""
        self._chosen = chosen
        self.refresh()

    def render(self) -> Content:
        """One line, each clickable."""
        palette = self.palette
        line = Content.styled("KV cache  ", palette.muted)
        for name in spec_of("kv").choices:
            style = palette.strong + palette.block_label if name == self._chosen else palette.muted
            line += click(f" {name} ", f"screen.take_kv('{name}')", style)
        return line.truncate(self.size.width, ellipsis=True)


class CompareSide(AppDialog[Choice | None]):
    """Two tables, models above schemes; enter on a scheme takes all three."""

    KEYS_TITLE = "Choosing a side"
    CSS_PATH = ["lists.tcss", "compare_side.tcss"]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("tab,shift+tab", "other_table", "Between models and schemes", priority=True),
        Binding("k", "kv(1)", "Other KV precision"),
        Binding("o", "path", "Name a folder, file or repository"),
    ]

    def __init__(self, side: Side) -> None:
        super().__init__()
        self._side = side
        self._choice = side.choice
        self._models: list[ModelRow] = []
        self._schemes: list[SchemeRow] = []
        self._problem: tuple[str, str] | None = None
        self._asked = 0

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(id="title")
            yield DataTable(cursor_type="row", zebra_stripes=False, id="models")
            yield KvLine(self._choice.kv)
            yield DataTable(cursor_type="row", zebra_stripes=False, id="table")
            yield Static(id="about")
            yield KeyBar(KEYS, id="keys")

    def on_mount(self) -> None:
        models = self.query_one("#models", DataTable)
        for label, width in (("", 1), ("model", 30), ("size", 9), ("params", 7)):
            models.add_column(label, width=width, key=label or "mark")
        schemes = self.query_one("#table", DataTable)
        for label, width in COLUMNS:
            schemes.add_column(label, width=width, key=label.strip() or "mark")
        schemes.focus()
        self._draw_title()
        self._read_models()
        self._plan()

    @property
    def _model(self) -> str:
        return self._choice.model or self.desk.preferences.settings.model

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._describe()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        self.action_take()

    def action_take(self) -> None:
        """The model under the cursor, or the scheme, which ends the choice."""
        if self.query_one("#models", DataTable).has_focus:
            self._take_model()
        else:
            self._take_scheme()

    def action_leave(self) -> None:
        """Close and change nothing."""
        self.dismiss(None)

    def action_other_table(self) -> None:
        """From one table to the other."""
        models, schemes = self.query_one("#models"), self.query_one("#table")
        (schemes if models.has_focus else models).focus()

    def action_kv(self, step: int) -> None:
        """The next KV precision."""
        choices = spec_of("kv").choices
        self.action_take_kv(choices[(choices.index(self._choice.kv) + step) % len(choices)])

    def action_take_kv(self, name: str) -> None:
        """A KV precision."""
        self._choice = dataclasses.replace(self._choice, kv=name)
        self.query_one(KvLine).show(name)
        self._plan()

    def action_path(self) -> None:
        """A model that is not in the table."""

        def named(name: str | None) -> None:
            if name and name.strip():
                self._look_for(name.strip())

        self.app.push_screen(Ask("Folder, file or repository of a model on disk"), named)

    def _take_model(self) -> None:
        at = self.query_one("#models", DataTable).cursor_row
        if 0 <= at < len(self._models):
            self._use(self._models[at])

    def _use(self, row: ModelRow) -> None:
        if not row.on_disk:
            self.notify(f"{row.name} is not on disk: ctrl+o in the chat fetches it.")
            return
        self._choice = dataclasses.replace(self._choice, model=row.name)
        self._fill_models()
        self._plan()
        self.query_one("#table").focus()

    def _take_scheme(self) -> None:
        row = self._chosen()
        if row is None:
            return
        if not row.allowed:
            self.notify(f"{row.name} cannot run here: {row.refusal}", severity="warning")
            return
        self.dismiss(dataclasses.replace(self._choice, scheme=row.name))

    def _look_for(self, name: str) -> None:
        def work() -> None:
            try:
                row = self.desk.library.find(name)
            except QuantchatError as error:
                self.app.notify(str(error), severity="warning")
                return
            self.app.call_from_thread(self._found, name, row)

        self.run_worker(work, thread=True, exit_on_error=False)

    def _found(self, name: str, row: ModelRow | None) -> None:
        if not self.is_mounted:
            return
        if row is None:
            self.notify(f"No model is called {name!r}.", severity="warning")
            return
        if all(each.name != row.name for each in self._models):
            self._models.insert(0, row)
        self._use(row)

    def _read_models(self) -> None:
        model = self._model

        def work() -> None:
            try:
                rows = self.desk.library.rows()
                if all(row.name != model for row in rows):
                    found = self.desk.library.find(model)
                    rows += [found] if found is not None else []
            except QuantchatError as error:
                self.app.notify(str(error), title="Models could not be listed", severity="warning")
                return
            self.app.call_from_thread(self._set_models, rows)

        self.run_worker(work, thread=True, exit_on_error=False)

    def _set_models(self, rows: list[ModelRow]) -> None:
        if self.is_mounted:
            self._models = sorted(rows, key=lambda row: not row.on_disk)
            self._fill_models()

    def _fill_models(self) -> None:
        palette = palette_from(self.app.theme_variables)
        table = self.query_one("#models", DataTable)
        table.clear()
        for row in self._models:
            chosen = row.name == self._model
            style = palette.strong if row.on_disk else palette.faint
            size = f"{figures.size(row.size_bytes):>9}" if row.size_bytes else ""
            table.add_row(
                Content.styled("●" if chosen else "", palette.success),
                Content.styled(figures.model_name(row.name), style),
                Content.styled(size, palette.muted),
                Content.styled(f"{figures.parameters(row.parameters):>7}", palette.muted),
            )
        at = next((at for at, row in enumerate(self._models) if row.name == self._model), 0)
        table.move_cursor(row=at)
        self._draw_title()

    def _plan(self) -> None:
        self._asked += 1
        asked, desk, side = self._asked, self.desk, self._side
        request = self._choice.request(desk.preferences.settings, side.slot)
        held = None
        if side.loaded and side.info is not None and side.memory is not None:
            held = Held.of(side.info, side.memory)

        def work() -> None:
            rows: list[SchemeRow] = []
            problem: tuple[str, str] | None = None
            try:
                rows = desk.schemes.rows(request, held, may_measure=False)
            except QuantchatError as error:
                problem = (error.message, error.hint)
            self.app.call_from_thread(self._set_schemes, asked, rows, problem)

        self._describe()
        self.run_worker(work, thread=True, exit_on_error=False)

    def _set_schemes(
        self, asked: int, rows: list[SchemeRow], problem: tuple[str, str] | None
    ) -> None:
        if not self.is_mounted or asked != self._asked:
            return
        table = self.query_one("#table", DataTable)
        before = self._chosen()
        wanted = before.name if before is not None else self._choice.scheme
        self._schemes, self._problem = rows, problem
        palette = palette_from(self.app.theme_variables)
        table.clear()
        for row in rows:
            mark = "●" if row.name == self._choice.scheme else ""
            table.add_row(Content.styled(mark, palette.success), *row_cells(row, palette))
        names = [row.name for row in rows]
        table.move_cursor(row=names.index(wanted) if wanted in names else 0)
        self._draw_title()
        self._describe()

    def _chosen(self) -> SchemeRow | None:
        at = self.query_one("#table", DataTable).cursor_row
        return self._schemes[at] if 0 <= at < len(self._schemes) else None

    def _draw_title(self) -> None:
        palette = palette_from(self.app.theme_variables)
        title = Content.styled(f"{self._side.name.capitalize()} side", palette.accent)
        title += Content.styled(f"  {figures.model_name(self._model)}", palette.muted)
        self.query_one("#title", Static).update(title)

    def _describe(self) -> None:
        palette = palette_from(self.app.theme_variables)
        row = self._chosen()
        lines: list[Content] = []
        if self._problem is not None:
            message, hint = self._problem
            lines = [Content.styled(message, palette.error), Content.styled(hint, palette.muted)]
        elif row is not None:
            lines = about_lines(row, self._model, palette)
        elif not self._schemes:
            lines = [Content.styled("planning", palette.muted)]
        self.query_one("#about", Static).update(Content("\n").join(lines))
