"""The model picker: what is on its way, on disk, recommended and on the hub, in one list.

Owns what is typed and the keys. The list's look belongs to `widgets.picker_list`, the search to
`control.hub_search`, verdicts to `control.fitting`; a repository's variants have their own screen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from quantchat.errors import QuantchatError
from quantchat.hub.names import entry_for, parse_hub_name
from quantchat.tui import figures
from quantchat.tui.control.about_entry import fits_name
from quantchat.tui.control.hub_finds import RepoEntry
from quantchat.tui.control.hub_search import SORTS, HubSearch
from quantchat.tui.control.library import ModelRow, ShelfPick
from quantchat.tui.control.model_paths import FoundPath, found_paths, is_path, pasted_path
from quantchat.tui.control.picking import (
    ModelEntry,
    NamedEntry,
    PathEntry,
    Shelves,
    TransferEntry,
    listed,
)
from quantchat.tui.control.transfers import Transfer
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.screens.model_actions import ModelActions
from quantchat.tui.screens.model_keys import CLOSE, keys_for
from quantchat.tui.screens.repo import RepoScreen, Taken
from quantchat.tui.widgets.bars import Activity, KeyBar
from quantchat.tui.widgets.hub_line import HubLine
from quantchat.tui.widgets.model_input import ModelInput
from quantchat.tui.widgets.model_side import ModelSide
from quantchat.tui.widgets.picker_list import PickerList

if TYPE_CHECKING:
    from quantchat.hub.search import Sort

TICK_S = 0.2
TYPED_CHARS = 1000
FOLLOWED = 12
"""Models on disk around the cursor that are planned for."""


class ModelsScreen(ModelActions[None]):
    """Typing filters and searches the hub; a path, a name or an address goes there directly."""

    KEYS_TITLE = "Models"
    CSS_PATH = ["lists.tcss", "models.tcss"]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close; downloads go on"),
        Binding("up", "move(-1)", "The model above", id="up", show=False, priority=True),
        Binding("down", "move(1)", "The model below", id="down", show=False, priority=True),
        Binding("pageup", "page(-1)", "A page up", show=False, priority=True),
        Binding("pagedown", "page(1)", "A page down", show=False, priority=True),
        Binding("ctrl+home", "to_end(-1)", "To the first", show=False, priority=True),
        Binding("ctrl+end", "to_end(1)", "To the last", show=False, priority=True),
        Binding("tab", "complete", "Complete a path or a name", priority=True),
        Binding("f3", "sort", "Sort what the hub finds by something else", priority=True),
        Binding("f4", "variants", "The variants of its repository", priority=True),
        Binding("f5", "again", "Ask the hub and the disk again", priority=True),
        Binding("f6", "figures", "Show or hide what fits, by context", priority=True),
        Binding("f7", "queue", "Fetch it and do not load it", priority=True),
        Binding("f8", "delete", "Delete from disk; drop a download", priority=True),
        Binding("f9", "stop", "Stop a download, or go on with it", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[ModelRow] = []
        self._picks: list[ShelfPick] = []
        self._shelves = Shelves()
        self._transfers: list[Transfer] = []
        self._arrived = self.desk.transfers.arrived
        self._was_loaded = self.loaded
        self._paths: list[FoundPath] = []
        self._asked_path = 0
        self._everything = False
        """The hub is asked although nothing is typed."""
        self._take_late = ""
        """Typed and entered while the hub was asked."""
        self._follow = ""
        """The cursor goes to its download once there is one."""
        self._filled = False
        self.search = HubSearch(self, self.desk.library, self._searched)

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(id="title", markup=False)
            yield ModelInput(
                self._look,
                placeholder="Search, or a path, owner/name, address of a repository",
                max_length=TYPED_CHARS,
                id="filter",
            )
            yield HubLine(self.search, id="hub")
            with Container(id="body"):
                yield PickerList(self.fitting.of, id="list")
                yield ModelSide(id="side")
            yield Activity(id="activity")
            yield KeyBar((CLOSE,), id="keys")

    @property
    def typed(self) -> str:
        """What stands in the field."""
        return self.query_one("#filter", Input).value.strip()

    def type(self, text: str) -> None:
        """Put something else into the field."""
        field = self.query_one("#filter", Input)
        field.value = text
        field.cursor_position = len(text)

    def on_mount(self) -> None:
        self.query_one("#filter").focus()
        self.rows.loaded = self.loaded
        self._transfers = self.desk.transfers.rows()
        self._say_title()
        self.set_interval(TICK_S, self._tick)
        self._read()

    def on_unmount(self) -> None:
        self.search.give_up()

    def on_screen_resume(self) -> None:
        self.query_one("#filter").focus()

    def on_model_input_pasted(self, event: ModelInput.Pasted) -> None:
        event.stop()
        self._pasted()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_take()

    def commands(self) -> Iterable[SystemCommand]:
        """What can be done here, and each way to sort."""
        yield SystemCommand("Variants", "What the repository offers (f4)", self.action_variants)
        yield from self.model_commands()
        for sort in SORTS:
            yield SystemCommand(
                f"Sort by {sort}", "What the hub finds", lambda by=sort: self.action_sort_by(by)
            )

    def action_leave(self) -> None:
        """Close; what is on its way goes on."""
        self.dismiss(None)

    def action_complete(self) -> None:
        """Put the path or the name under the cursor into the field."""
        entry = self.rows.current
        if isinstance(entry, PathEntry | RepoEntry | ModelEntry):
            self.type(entry.name)

    def action_sort(self) -> None:
        """The next way to sort."""
        self.action_sort_by(SORTS[(SORTS.index(self.search.sort) + 1) % len(SORTS)])

    def action_sort_by(self, sort: Sort) -> None:
        """Sort what the hub finds; with nothing typed, all that it has."""
        self._everything = True
        self.search.ask("" if is_path(self.typed) else self.typed, sort, everything=True)
        self._fill()

    def action_again(self) -> None:
        """Ask the hub and the disk again."""
        self.search.again()
        self.fitting.forget()
        self._read()

    def action_take(self) -> None:
        """Load, fetch or open what is under the cursor, or what was typed where nothing is."""
        entry = self.rows.current
        if entry is None:
            if self.typed and self.search.state == "searching":
                self._take_late = self.typed
            elif self.typed:
                self.desk.choose_model(self.typed)
        elif isinstance(entry, TransferEntry):
            self.desk.choose_model(entry.name)
        elif isinstance(entry, ModelEntry):
            self.desk.choose_model(entry.name, entry.pick.scheme if entry.pick else "")
            if entry.row.on_disk:
                self.dismiss(None)
        elif isinstance(entry, PathEntry):
            if entry.path.kind == "folder":
                self.type(entry.name)
            else:
                self.desk.choose_model(entry.name)
                self.dismiss(None)
        else:
            self._open(entry.name)

    def action_variants(self) -> None:
        """What the repository of the entry offers."""
        entry = self.rows.current
        name = entry.name if entry is not None and not isinstance(entry, PathEntry) else ""
        known = entry_for(name) if name else None
        if known is None:
            self.notify("It is not of the hub.")
        else:
            self._open(f"{known.repo}:{known.file}" if known.file else known.repo)

    def action_queue(self) -> None:
        """Fetch the model under the cursor, and do not load it."""
        entry = self.rows.current
        if isinstance(entry, RepoEntry | NamedEntry):
            self._open(entry.name)
        elif isinstance(entry, ModelEntry) and not entry.row.on_disk:
            self.queue(entry.name)
        elif isinstance(entry, ModelEntry | PathEntry):
            self.notify("It is on disk already.")

    def action_stop(self) -> None:
        """Stop the download under the cursor, or go on with it."""
        entry = self.rows.current
        if isinstance(entry, TransferEntry):
            self.stop_or_retry(entry.transfer)
            self._take_transfers()
        else:
            self.notify("It is not on its way.")

    def action_delete(self) -> None:
        """Delete a model from disk, or drop a download; asks first."""
        entry = self.rows.current
        if isinstance(entry, TransferEntry):
            self.drop(entry.transfer)
        elif isinstance(entry, ModelEntry) and entry.row.on_disk:
            self.delete(entry.row)
        else:
            self.notify("Nothing of it is on disk.")

    def fits_changed(self) -> None:
        """A verdict came."""
        self.rows.refresh()
        self._say()

    def rows_changed(self) -> None:
        """Something was deleted."""
        self._read()

    def _pasted(self) -> None:
        """A repository that was pasted is opened at once; a path is taken as it is meant."""
        path = pasted_path(self.typed)
        if path != self.typed:
            self.type(path)
        named = parse_hub_name(self.typed)
        if named is not None and str(named) not in self._shelves.rows:
            self._open(str(named))

    def _open(self, name: str) -> None:
        def closed(taken: Taken | None) -> None:
            if taken is None:
                return
            if taken.loads:
                self.dismiss(None)
                return
            self.type("")
            self._follow = taken.name
            self._take_transfers()

        self.app.push_screen(RepoScreen(name), closed)

    def _look(self) -> None:
        """Something else is typed."""
        typed = self.typed
        self._take_late = ""
        if typed:
            self._follow = ""
        self._asked_path += 1
        if is_path(typed):
            self.search.ask("", self.search.sort)
            asked = self._asked_path

            def show(found: list[FoundPath]) -> None:
                if asked == self._asked_path:
                    self._paths = found
                    self._fill()

            self.work(lambda: found_paths(typed), show)
        else:
            self._everything = self._everything and not typed
            self.search.ask(typed, self.search.sort, everything=self._everything)
        self._fill(top=True)

    def _searched(self) -> None:
        """The hub answered, or did not."""
        self._fill()
        late, self._take_late = self._take_late, ""
        if late and late == self.typed and self.rows.current is None:
            self.desk.choose_model(late)

    def _read(self) -> None:
        def show(rows: list[ModelRow]) -> None:
            first, self._filled = not self._filled, True
            self._rows = rows
            self._shelve(top=first)
            if first and not self.typed and self.loaded:
                self.rows.go_to(self.loaded)

        def recommend(picks: list[ShelfPick]) -> None:
            self._picks = picks
            self._shelve()

        def failed(error: QuantchatError) -> None:
            self.notify(str(error), title="Models could not be listed", severity="error")

        self.work(self.desk.library.rows, show, failed)
        if not self._picks:
            self.work(self.desk.library.shelf, recommend, failed)

    def _shelve(self, *, top: bool = False) -> None:
        self._shelves = Shelves(self._rows, self._picks)
        self._say_title()
        self._fill(top=top)

    def _fill(self, *, top: bool = False) -> None:
        """List what there is for what is typed; `top` puts the cursor on the best of it."""
        sections = listed(self.typed, self._shelves, self._transfers, self._paths, self.search)
        moving = len(sections[0].entries) if sections and sections[0].kind == "transfers" else 0
        rest = sum(len(section.entries) for section in sections) - moving
        self.rows.show(sections, go_to=(moving if rest else 0) if top else None)
        self.query_one("#hub").refresh()
        self.describe(moved=False)

    def restyle(self) -> None:
        """Words in the colours of the theme."""
        self._say_title()
        self._say()

    def describe(self, *, moved: bool = True) -> None:
        """Another entry, or another look of it; it is planned for once the cursor rests."""
        entry = self.rows.current
        self.query_one("#keys", KeyBar).show(keys_for(entry))
        self._say()
        self.plan_soon(moved=moved)

    def plan(self) -> None:
        name = fits_name(self.rows.current)
        near = self.rows.near(FOLLOWED)
        disk = [each.name for each in near if isinstance(each, ModelEntry) and each.row.on_disk]
        self.fitting.want([name, *disk] if name else disk)

    def _say(self) -> None:
        entry = self.rows.current
        name = fits_name(entry)
        unknown = ""
        if self.typed and self.search.state != "searching":
            unknown = f"Enter looks for {self.typed}"
        found = self.fitting.of(name) if name else None
        self.query_one(ModelSide).show(entry, found, loaded=self.loaded, unknown=unknown)

    def _say_title(self) -> None:
        palette = palette_from(self.app.theme_variables)
        rows = [row for row in self._shelves.rows.values() if row.on_disk]
        said = f"{len(rows)} on disk, {figures.size(sum(row.size_bytes for row in rows))}"
        title = Content.assemble(
            Content.styled("Models", palette.accent),
            Content.styled(f"  {said}" if rows else "", palette.muted),
        )
        self.query_one("#title", Static).update(title)

    def _take_transfers(self) -> None:
        now = self.desk.transfers.rows()
        if now != self._transfers:
            self._transfers = now
            self._fill()
        # The list may have known the download before the cursor was to follow it.
        if self._follow and any(line.name == self._follow for line in now):
            self._fill()
            if self.rows.go_to(self._follow):
                self._follow = ""

    def _tick(self) -> None:
        self._take_transfers()
        self.query_one("#hub", HubLine).tick()
        busy = self.desk.loads.state in ("looking", "loading")
        text, share = self.desk.status.activity() if busy else ("", None)
        self.query_one("#activity", Activity).show(text, share)
        if self.desk.transfers.arrived != self._arrived:
            self._arrived = self.desk.transfers.arrived
            self._read()
        if self.loaded != self._was_loaded:
            self._was_loaded = self.rows.loaded = self.loaded
            self.fitting.forget()
            self.rows.refresh()
            self.describe()
