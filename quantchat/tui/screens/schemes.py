"""The chooser of schemes: what each costs in memory, speed and quality here, and why some cannot be."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import DataTable, Static

from quantchat.settings.schema import spec_of
from quantchat.tui import figures
from quantchat.tui.control.offered import Problem
from quantchat.tui.control.schemes import SchemeRow
from quantchat.tui.markup.palette import Palette, palette_from
from quantchat.tui.screens.base import AppDialog
from quantchat.tui.widgets.bars import Activity, Key, KeyBar

KEYS = (
    Key(key="enter", text="load", action="screen.load"),
    Key(text="load, answer again", action="screen.again"),
    Key(text="KV precision", action="screen.kv"),
    Key(text="close", action="screen.leave"),
)
COLUMNS = (
    ("", 1),
    ("scheme", 12),
    (" weights", 8),
    ("KV cache", 8),
    (" tok/s", 6),
    ("    KL", 6),
    (" top-1", 6),
    ("start", 9),
)
NOTHING = "–"


class SchemesScreen(AppDialog[None]):
    """Enter loads the model in the scheme under the cursor; the table waits for nothing."""

    KEYS_TITLE = "Schemes"
    CSS_PATH = ["lists.tcss", "schemes.tcss"]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "load", "Load it", show=False),
        Binding("escape,f5", "leave", "Close"),
        Binding("r", "again", "Load it and answer the last question again"),
        Binding("k", "kv", "Other KV precision"),
        Binding("home", "to(0)", "The first scheme", id="first", show=False, priority=True),
        Binding("end", "to(-1)", "The last scheme", id="last", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[SchemeRow] = []
        self._kv = self.desk.preferences.settings.kv
        self._problem: Problem = None

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(id="title")
            yield DataTable(cursor_type="row", zebra_stripes=False, id="table")
            yield Static(id="about")
            yield Activity(id="activity")
            yield KeyBar(KEYS, id="keys")

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        for label, width in COLUMNS:
            table.add_column(label, width=width, key=label.strip() or "mark")
        table.focus()
        self.query_one("#activity", Activity).show("planning", None)
        self.set_interval(0.15, self._tick)
        self._read()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._describe()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        self._give(again=False)

    def action_leave(self) -> None:
        """Close and change nothing."""
        self.dismiss(None)

    def action_kv(self) -> None:
        """The next KV precision; it is kept when a scheme is loaded."""
        choices = spec_of("kv").choices
        self._kv = choices[(choices.index(self._kv) + 1) % len(choices)]
        self._read()

    def action_load(self) -> None:
        """Load the scheme under the cursor."""
        self._give(again=False)

    def action_again(self) -> None:
        """Load it, and answer the last question again with it."""
        self._give(again=True)

    def _give(self, *, again: bool) -> None:
        row = self._chosen()
        if row is None:
            return
        if not row.allowed:
            self.notify(f"{row.name} cannot run here: {row.refusal}", severity="warning")
            return
        self.dismiss(None)
        self.desk.switching.take(row.name, self._kv, again=again)

    def action_to(self, row: int) -> None:
        """The first scheme, or the last for -1."""
        self.query_one(DataTable).move_cursor(row=row % max(1, len(self._rows)))

    def _read(self) -> None:
        self._draw_title()
        self.desk.offered.read(self._kv, self._set_rows)

    def _set_rows(self, rows: list[SchemeRow], problem: Problem) -> None:
        if not self.is_mounted:
            return
        first = not self._rows
        self._rows, self._problem = rows, problem
        self._fill(first)

    def _fill(self, first: bool) -> None:
        palette = palette_from(self.app.theme_variables)
        table = self.query_one(DataTable)
        at = table.cursor_row
        table.clear()
        settings, info = self.desk.preferences.settings, self.desk.loads.info
        for row in self._rows:
            loaded = info is not None and row.name == info.scheme
            wanted = row.name == settings.scheme
            mark = "●" if loaded else "○" if wanted else ""
            cells = row_cells(row, palette)
            table.add_row(Content.styled(mark, palette.success), *cells)
        if first:
            names = [row.name for row in self._rows]
            at = names.index(settings.scheme) if settings.scheme in names else 0
        table.move_cursor(row=min(max(at, 0), max(0, len(self._rows) - 1)))
        self._draw_title()
        self._describe()

    def _chosen(self) -> SchemeRow | None:
        at = self.query_one(DataTable).cursor_row
        return self._rows[at] if 0 <= at < len(self._rows) else None

    def _draw_title(self) -> None:
        palette = palette_from(self.app.theme_variables)
        settings = self.desk.preferences.settings
        parts = [figures.model_name(settings.model), f"KV {self._kv}"]
        if settings.device != "auto":
            parts.append(settings.device)
        title = Content.assemble(
            Content.styled("Schemes", palette.accent),
            Content.styled("  " + " · ".join(parts), palette.muted),
        )
        self.query_one("#title", Static).update(title)

    def _describe(self) -> None:
        palette = palette_from(self.app.theme_variables)
        row = self._chosen()
        lines: list[Content] = []
        if self._problem is not None:
            message, hint = self._problem
            lines = [Content.styled(message, palette.error), Content.styled(hint, palette.muted)]
        elif row is not None:
            lines = about_lines(row, self.desk.preferences.settings.model, palette)
        self.query_one("#about", Static).update(Content("\n").join(lines))

    def _tick(self) -> None:
        text, share = self.desk.status.activity()
        if not self._rows and self._problem is None:
            text, share = "planning", None
        self.query_one("#activity", Activity).show(text, share)


def row_cells(row: SchemeRow, palette: Palette) -> list[Content]:
    """A scheme's figures, right-aligned; what is not known is a dash."""
    if not row.allowed:
        dash = [Content.styled(NOTHING.rjust(width), palette.faint) for _, width in COLUMNS[2:-1]]
        return [
            Content.styled(row.name, palette.faint),
            *dash,
            Content.styled("refused", palette.faint),
        ]
    quality = row.quality
    return [
        Content.styled(row.name, palette.strong),
        Content(f"{figures.size(row.weight_bytes):>8}"),
        Content(f"{figures.size(row.kv_bytes):>8}"),
        Content(f"{'~' + figures.speed(row.tok_per_s) if row.tok_per_s else NOTHING:>6}"),
        Content(f"{figures.divergence(quality.kl_mean) if quality else NOTHING:>6}"),
        Content(f"{f'{quality.same_top * 100:.1f} %' if quality else NOTHING:>6}"),
        Content.styled(start_word(row), palette.muted),
    ]


def start_word(row: SchemeRow) -> str:
    """What happens before the first answer."""
    if row.packed:
        return "ready"
    return "calibrate" if row.calibrates else ""


def about_lines(row: SchemeRow, model: str, palette: Palette) -> list[Content]:
    """All that is known of a scheme here, in sentences."""
    takes = f" Here: {row.takes}." if row.takes else ""
    lines = [Content.styled(row.summary + takes, palette.strong)]
    if not row.allowed:
        lines.append(Content.styled(f"Cannot run here: {row.refusal}.", palette.error))
        if row.hint:
            lines.append(Content.styled(row.hint, palette.muted))
        return lines
    memory = (
        f"{figures.size(row.weight_bytes)} weights, {figures.size(row.kv_bytes)} {row.kv} KV for "
        f"{figures.count(row.context_tokens)} tokens"
    )
    if row.tok_per_s:
        memory += f"; ~{figures.speed(row.tok_per_s)} tok/s at {figures.count(row.speed_tokens)}"
    lines.append(Content.styled(memory, palette.muted))
    lines.append(Content.styled(quality_words(row, model), palette.muted))
    notes = []
    if row.calibrates:
        ready = "calibrated before: starts at once"
        notes.append(ready if row.packed else "calibrates first; esc stops it")
    if row.held:
        notes.append(f"{row.held} here: its answers, not its bytes")
    if notes:
        lines.append(Content.styled(" · ".join(notes), palette.warning))
    return lines


def quality_words(row: SchemeRow, model: str) -> str:
    """What was measured and on what, or how to measure it."""
    quality = row.quality
    name = row.takes or row.name
    if quality is None:
        return f"quality not measured: quantchat eval -m {model} -s {name} --kv {row.kv}"
    kv = "" if quality.kv == row.kv else f" with {quality.kv} KV"
    return (
        f"KL {figures.divergence(quality.kl_mean)} ± {figures.divergence(quality.kl_mean_se)}, "
        f"same top token {quality.same_top * 100:.1f} %{kv}: "
        f"{figures.count(quality.tokens)} tokens of {quality.text}"
    )
