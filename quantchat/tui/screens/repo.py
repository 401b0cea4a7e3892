"""What a repository of the hub offers: its variants, and what of them fits here.

Owns the question to the hub and the choice of a variant; verdicts belong to `control.fitting`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widgets import Static

from quantchat.errors import QuantchatError
from quantchat.hub.names import entry_for, parse_hub_name
from quantchat.tui import figures
from quantchat.tui.control.library import Library, ModelRow
from quantchat.tui.control.picking import Section, VariantEntry
from quantchat.tui.control.transfers import Transfer
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.printable import printable
from quantchat.tui.screens.model_actions import ModelActions
from quantchat.tui.screens.model_keys import AGAIN, CLOSE, keys_for
from quantchat.tui.widgets.bars import Activity, KeyBar
from quantchat.tui.widgets.model_side import ModelSide
from quantchat.tui.widgets.picker_list import PickerList

if TYPE_CHECKING:
    from quantchat.hub.variants import Offer, Variant

TICK_S = 0.2
USUAL_TYPES = ("Q4_K_M", "Q4_K_S", "Q4_K_XL", "IQ4_XS", "Q4_1", "Q4_0")
"""Under the cursor at first, where a repository has one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What was chosen."""

    name: str
    loads: bool
    """It is on disk, and on its way into memory."""


class RepoScreen(ModelActions[Taken | None]):
    """Asks the hub, then lists; Enter fetches a variant and loads it."""

    KEYS_TITLE = "A repository's variants"
    TABLE = True
    CSS_PATH = ["lists.tcss", "models.tcss"]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back to the models"),
        Binding("enter", "take", "Fetch it and load it", show=False),
        Binding("up", "move(-1)", "The variant above", id="up", show=False),
        Binding("down", "move(1)", "The variant below", id="down", show=False),
        Binding("pageup", "page(-1)", "A page up", show=False),
        Binding("pagedown", "page(1)", "A page down", show=False),
        Binding("home,ctrl+home", "to_end(-1)", "To the first", show=False),
        Binding("end,ctrl+end", "to_end(1)", "To the last", show=False),
        Binding("f5", "again", "Ask the hub again"),
        Binding("f6", "figures", "Show or hide what fits, by context"),
        Binding("f7", "queue", "Fetch it and do not load it"),
        Binding("f8", "delete", "Delete from disk; drop a download"),
        Binding("f9", "stop", "Stop a download, or go on with it"),
    ]

    def __init__(self, name: str) -> None:
        """`name`: owner/name, or owner/name:file.gguf for one of its files."""
        super().__init__()
        named = parse_hub_name(name)
        assert named is not None
        self._repo = named.repo
        self._wished = name
        self._cancel = threading.Event()
        self._offer: Offer | None = None
        self._problem: QuantchatError | None = None
        self._there: dict[str, ModelRow] = {}
        """Variants on disk, by their names."""
        self._transfers: list[Transfer] = []
        self._arrived = self.desk.transfers.arrived

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(id="title", markup=False)
            yield Static(id="facts", markup=False)
            with Container(id="body"):
                yield PickerList(self.fitting.of, id="list")
                yield ModelSide(id="side")
            yield Activity(id="activity")
            yield KeyBar((AGAIN, CLOSE), id="keys")

    def on_mount(self) -> None:
        self._transfers = self.desk.transfers.rows()
        self.rows.loaded = self.loaded
        self.set_interval(TICK_S, self._tick)
        self._ask()

    def on_unmount(self) -> None:
        self._cancel.set()

    def commands(self) -> Iterable[SystemCommand]:
        """What can be done here."""
        yield SystemCommand("Fetch and load", "The variant (enter)", self.action_take)
        yield from self.model_commands()

    def action_leave(self) -> None:
        """Back; downloads go on."""
        self.dismiss(None)

    def action_again(self) -> None:
        """Ask the hub again."""
        self.fitting.forget()
        self._ask()

    def action_take(self) -> None:
        """Load the variant, fetching it first where it is not on disk."""
        entry = self._entry()
        if entry is None or not self._may_fetch(entry):
            return
        self.desk.choose_model(entry.name)
        self.dismiss(Taken(name=entry.name, loads=entry.row is not None))

    def action_queue(self) -> None:
        """Fetch the variant and do not load it."""
        entry = self._entry()
        if entry is None or not self._may_fetch(entry):
            return
        if entry.row is not None:
            self.notify("It is on disk already.")
            return
        self.queue(entry.name)
        self._take_transfers()

    def action_stop(self) -> None:
        """Stop the variant's download, or go on with it."""
        entry = self._entry()
        if entry is None or entry.transfer is None:
            self.notify("It is not on its way.")
        else:
            self.stop_or_retry(entry.transfer)
            self._take_transfers()

    def action_delete(self) -> None:
        """Delete the variant from disk, or drop its download; asks first."""
        entry = self._entry()
        if entry is not None and entry.transfer is not None:
            self.drop(entry.transfer)
        elif entry is not None and entry.row is not None:
            self.delete(entry.row)
        else:
            self.notify("Nothing of it is on disk.")

    def fits_changed(self) -> None:
        """A verdict came."""
        self.rows.refresh()
        self._say()

    def rows_changed(self) -> None:
        """Something was deleted."""
        self._ask()

    def _entry(self) -> VariantEntry | None:
        entry = self.rows.current
        return entry if isinstance(entry, VariantEntry) else None

    def _may_fetch(self, entry: VariantEntry) -> bool:
        """Whether it may be loaded or fetched; says why not."""
        assert self._offer is not None
        if entry.row is None and not self._offer.may_fetch:
            words = self._offer.refusal or f"{self._repo} is gated"
            self.notify(f"{words}\n{self._offer.hint}".strip(), severity="warning", timeout=10)
            return False
        return True

    def _ask(self) -> None:
        self._cancel.set()
        self._cancel = cancel = threading.Event()
        self._problem = None
        repo, library = self._repo, self.desk.library

        def ask() -> tuple[Offer, dict[str, ModelRow]]:
            offer = library.offer(repo, cancel)
            return offer, on_disk(library, offer)

        def show(found: tuple[Offer, dict[str, ModelRow]]) -> None:
            if cancel is self._cancel:
                first = self._offer is None
                self._offer, self._there = found
                self._fill(first=first)

        def failed(error: QuantchatError) -> None:
            if cancel is self._cancel:
                self._problem, self._offer = error, None
                self._fill()

        self.work(ask, show, failed)
        self._fill()

    def _fill(self, *, first: bool = False) -> None:
        entries = []
        if self._offer is not None:
            by_name = {row.name: row for row in self._transfers}
            entries = [
                VariantEntry(
                    variant=each,
                    row=self._there.get(each.name),
                    transfer=by_name.get(each.name),
                    blocked=not self._offer.may_fetch and each.name not in self._there,
                )
                for each in self._offer.variants
            ]
        note = hint = ""
        if self._problem is not None:
            note, hint = self._problem.message, self._problem.hint
        elif self._offer is None:
            note = "asking the hub …"
        elif not entries:
            note = "it has neither a GGUF file nor safetensors with config.json"
        elif not self._offer.may_fetch:
            note, hint = self._offer.refusal, self._offer.hint
        section = Section(
            kind="variants", entries=tuple(entries), note=note, hint=hint, trouble=bool(hint)
        )
        go_to = None
        if first and self._offer is not None:
            go_to = self._at_first(self._offer.variants)
        self.rows.show([section], go_to=go_to)
        self._say_facts()
        self.describe(moved=False)

    def _at_first(self, variants: tuple[Variant, ...]) -> int:
        """The one that was asked for, else a usual one, else the smallest."""
        named = parse_hub_name(self._wished)
        file = named.file if named is not None else None
        labels = [each.label.removeprefix("UD-") for each in variants]
        if file is not None:
            names = [each.name.partition(":")[2] for each in variants]
            if file in names:
                return names.index(file)
            self.notify(f"{self._repo} has no {file}.", severity="warning")
        usual = next((labels.index(each) for each in USUAL_TYPES if each in labels), None)
        return 0 if usual is None else usual

    def restyle(self) -> None:
        """Words in the colours of the theme."""
        self._say_facts()
        self._say()

    def describe(self, *, moved: bool = True) -> None:
        """Another variant, or another look of it."""
        entry = self._entry()
        if entry is None:
            self.query_one("#keys", KeyBar).show((AGAIN, CLOSE))
        else:
            self.query_one("#keys", KeyBar).show(keys_for(entry))
        self._say()
        self.plan_soon(moved=moved)

    def plan(self) -> None:
        if self._offer is not None and self._offer.may_fetch:
            entry = self._entry()
            names = [each.name for each in self.rows.near(len(self._offer.variants))]
            self.fitting.want([entry.name, *names] if entry is not None else names)

    def _say(self) -> None:
        entry = self._entry()
        found = self.fitting.of(entry.name) if entry is not None else None
        self.query_one(ModelSide).show(entry, found, loaded=self.loaded)

    def _say_facts(self) -> None:
        palette = palette_from(self.app.theme_variables)
        offer = self._offer
        name = offer.repo if offer is not None else self._repo
        title = Content.styled(printable(name), palette.accent)
        facts = Content("")
        if offer is not None:
            parts = [
                offer.architecture,
                figures.parameters(offer.parameters),
                offer.license and f"licence {offer.license}",
            ]
            words = " · ".join(part for part in parts if part)
            facts = Content.styled(printable(words), palette.muted)
            marks = [
                "gated" if offer.gated and offer.may_fetch else "",
                "gated, no access" if offer.gated and not offer.may_fetch else "",
                "private" if offer.private else "",
            ]
            said = "  ".join(mark for mark in marks if mark)
            facts = Content.assemble(facts, "  ", Content.styled(said, palette.warning))
            if offer.repo.lower() != self._repo.lower():
                title = Content.assemble(
                    title, Content.styled(printable(f"  once {self._repo}"), palette.muted)
                )
        self.query_one("#title", Static).update(title)
        self.query_one("#facts", Static).update(facts)

    def _take_transfers(self) -> None:
        now = self.desk.transfers.rows()
        if now != self._transfers:
            self._transfers = now
            self._fill()

    def _tick(self) -> None:
        self._take_transfers()
        waits = self._offer is None and self._problem is None
        text = "asking the hub" if waits else ""
        self.query_one("#activity", Activity).show(text, None)
        if self.desk.transfers.arrived != self._arrived:
            self._arrived = self.desk.transfers.arrived
            self._ask()


def on_disk(library: Library, offer: Offer) -> dict[str, ModelRow]:
    """Variants that can be loaded now; each is looked for only where any of the repository is."""
    entries = (entry_for(row.name) for row in library.rows() if row.on_disk)
    if offer.repo.lower() not in {entry.repo.lower() for entry in entries if entry is not None}:
        return {}
    found = {each.name: library.find(each.name) for each in offer.variants}
    return {name: row for name, row in found.items() if row is not None and row.on_disk}
