"""What can be done with a model from a list: load, fetch, queue, stop, delete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import SystemCommand
from textual.events import Resize
from textual.timer import Timer

from quantchat.errors import QuantchatError
from quantchat.tui import figures
from quantchat.tui.control.fitting import Fitting
from quantchat.tui.control.library import ModelRow
from quantchat.tui.control.schemes import Held
from quantchat.tui.control.transfers import UNDER_WAY, Transfer
from quantchat.tui.screens.base import has_widgets
from quantchat.tui.screens.dialog import Dialog, Way
from quantchat.tui.screens.working import Result, WorkingDialog
from quantchat.tui.widgets.model_side import ModelSide
from quantchat.tui.widgets.picker_list import PickerList

REST_S = 0.15
"""The cursor rests so long before what is under it is planned for."""
WIDE_COLUMNS = 150
"""From here on the figures stand beside the list."""


class ModelActions(WorkingDialog[Result]):
    """A list of models, or of a repository's variants."""

    TABLE: ClassVar[bool] = False
    """What fits is shown by context even where the list has to make room for it."""

    def __init__(self) -> None:
        super().__init__()
        self._figures: bool | None = None
        """The user's wish."""
        self._rest: Timer | None = None
        self.fitting = Fitting(self, self.desk.fits, self._held, self.fits_changed)

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self.restyle())

    def on_resize(self, event: Resize) -> None:
        if has_widgets(self):
            self._lay_out()
            self.describe()

    def on_unmount(self) -> None:
        self.app.theme_changed_signal.unsubscribe(self)
        self.fitting.close()

    def on_picker_list_moved(self, event: PickerList.Moved) -> None:
        event.stop()
        self.describe()

    def on_picker_list_taken(self, event: PickerList.Taken) -> None:
        event.stop()
        self.action_take()

    def restyle(self) -> None:
        """The theme is another one."""
        raise NotImplementedError

    def describe(self, *, moved: bool = True) -> None:
        """Another entry is under the cursor, or it looks otherwise."""
        raise NotImplementedError

    def plan(self) -> None:
        """Ask for verdicts."""
        raise NotImplementedError

    def plan_soon(self, *, moved: bool = True) -> None:
        """Once the cursor rests; a list that changed without it does not put the rest off."""
        if self._rest is not None:
            if not moved:
                return
            self._rest.stop()
        self._rest = self.set_timer(REST_S, self._rested)

    def _rested(self) -> None:
        self._rest = None
        self.plan()

    def fits_changed(self) -> None:
        """A verdict came."""
        raise NotImplementedError

    def rows_changed(self) -> None:
        """Something was deleted."""
        raise NotImplementedError

    @property
    def rows(self) -> PickerList:
        """The list."""
        return self.query_one("#list", PickerList)

    def model_commands(self) -> Iterable[SystemCommand]:
        """What both lists can do, for the command palette."""
        yield SystemCommand("What fits", "By context length", self.action_figures)
        yield SystemCommand("Only fetch", "And do not load it", self.action_queue)
        yield SystemCommand("Delete or drop", "From disk, or a download", self.action_delete)
        yield SystemCommand("Stop or go on", "With a download", self.action_stop)
        yield SystemCommand("Ask again", "The hub and the disk", self.action_again)

    @property
    def shows_table(self) -> bool:
        """Whether the table of what fits is shown."""
        return self.query_one(ModelSide).table

    def action_figures(self) -> None:
        """Show or hide the table of what fits."""
        self._figures = not self.shows_table
        self._lay_out()
        self.describe()

    def action_take(self) -> None:
        """Load what is under the cursor, fetching it first where it is not on disk."""
        raise NotImplementedError

    def action_queue(self) -> None:
        """Fetch it and do not load it."""
        raise NotImplementedError

    def action_delete(self) -> None:
        """Delete from disk, or drop a download."""
        raise NotImplementedError

    def action_stop(self) -> None:
        """Stop a download, or go on with it."""
        raise NotImplementedError

    def action_again(self) -> None:
        """Ask again."""
        raise NotImplementedError

    @property
    def loaded(self) -> str:
        """The model that answers; "" for none."""
        info = self.desk.loads.info
        return "" if info is None else info.model

    def action_move(self, step: int) -> None:
        """Move in the list while the field keeps the focus."""
        self.rows.move_to(self.rows.cursor + step)

    def action_page(self, step: int) -> None:
        """Move by a page."""
        self.rows.move_to(self.rows.cursor + step * max(1, self.rows.size.height - 2))

    def action_to_end(self, step: int) -> None:
        """To the first or the last."""
        self.rows.move_to(0 if step < 0 else self.rows.count - 1)

    def queue(self, name: str) -> None:
        """Fetch it and do not load it."""
        self.desk.transfers.add([name])
        self.notify(f"{figures.model_name(name)} is on the list of downloads.")

    def stop_or_retry(self, transfer: Transfer) -> None:
        """Let a download be; one that was let be, or failed, goes on."""
        if transfer.phase in UNDER_WAY:
            self.desk.transfers.stop(transfer.name)
        else:
            self.desk.transfers.add([transfer.name])

    def drop(self, transfer: Transfer) -> None:
        """Take a download off the list, after asking where bytes would be lost."""
        name = transfer.name
        if not transfer.done_bytes:
            self.desk.transfers.drop(name)
            return
        ways = (
            Way(key="d", label="Drop", result="drop", danger=True),
            Way(key="c", label="Keep", result=""),
        )
        question = f"{figures.size(transfer.done_bytes)} that came already are deleted."

        def answer(result: str | None) -> None:
            if result == "drop":
                self.desk.transfers.drop(name)

        title = f"Do not fetch {figures.model_name(name)}?"
        self.app.push_screen(Dialog(title, question, "", ways), answer)

    def delete(self, row: ModelRow) -> None:
        """Delete a fetched model after asking."""
        if not row.removable:
            self.notify("It was not fetched by quantchat; delete it where it lies.")
            return
        loaded = (
            " It is loaded now and answers until the app is closed."
            if self.loaded == row.name
            else ""
        )
        ways = (
            Way(key="d", label="Delete", result="delete", danger=True),
            Way(key="c", label="Keep", result=""),
        )
        question = f"This frees {figures.size(row.size_bytes)}.{loaded}"

        def deleted(freed: int) -> None:
            self.notify(f"Deleted {row.title}: {figures.size(freed)} are free again.")
            self.rows_changed()

        def failed(error: QuantchatError) -> None:
            self.notify(str(error), title="Not deleted", severity="error")

        def answer(result: str | None) -> None:
            if result == "delete":
                self.work(lambda: self.desk.library.remove(row.name), deleted, failed)

        self.app.push_screen(Dialog(f"Delete {row.title}?", question, "", ways), answer)

    def _lay_out(self) -> None:
        wide = self.size.width >= WIDE_COLUMNS and self._figures is not False
        self.set_class(wide, "-wide")
        table = wide or self.TABLE if self._figures is None else self._figures
        self.set_class(table and not wide, "-table")
        self.query_one(ModelSide).table = table

    def _held(self) -> Held | None:
        loads = self.desk.loads
        if loads.info is None or loads.memory is None:
            return None
        return Held.of(loads.info, loads.memory)
