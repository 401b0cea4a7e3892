"""What the model picker lists, in sections: from disk, shelf, catalog, hub, and what is on its way.

Owns which entries there are and in what order; looks belong to widgets, answers to those asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from quantchat.hub.names import parse_hub_name
from quantchat.tui.control.hub_finds import RepoEntry
from quantchat.tui.control.hub_search import HubSearch
from quantchat.tui.control.library import ModelRow, ShelfPick
from quantchat.tui.control.model_paths import FoundPath, is_path
from quantchat.tui.control.transfers import Transfer
from quantchat.tui.control.words import has_words

if TYPE_CHECKING:
    from quantchat.hub.variants import Variant

SectionKind: TypeAlias = Literal[
    "transfers", "disk", "shelf", "catalog", "hub", "paths", "variants"
]
TITLES: dict[SectionKind, str] = {
    "transfers": "Downloads",
    "disk": "On disk",
    "shelf": "Recommended",
    "catalog": "Catalog",
    "hub": "On the hub",
    "paths": "Files and folders",
    "variants": "Variants",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferEntry:
    """A model on its way."""

    transfer: Transfer

    @property
    def name(self) -> str:
        """What fetches it."""
        return self.transfer.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model on disk or in the catalog."""

    row: ModelRow
    pick: ShelfPick | None = None
    """Why it is recommended."""

    @property
    def name(self) -> str:
        """What loads or fetches it."""
        return self.row.name


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedEntry:
    """A repository, or a file in one, whose name or address was typed."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PathEntry:
    """A folder or file that a typed path may mean."""

    path: FoundPath

    @property
    def name(self) -> str:
        """As it would be typed."""
        return self.path.path


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantEntry:
    """One thing that a repository offers."""

    variant: Variant
    row: ModelRow | None = None
    """Where it is on disk."""
    transfer: Transfer | None = None
    """Where it is on its way."""
    blocked: bool = False
    """It may not be fetched."""

    @property
    def name(self) -> str:
        """What loads it, or fetches it."""
        return self.variant.name if self.row is None else self.row.name


Entry: TypeAlias = TransferEntry | ModelEntry | RepoEntry | NamedEntry | PathEntry | VariantEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Entries of one kind."""

    kind: SectionKind
    entries: tuple[Entry, ...]
    note: str = ""
    """Stands in place of entries, or after them."""
    hint: str = ""
    trouble: bool = False
    """The note is bad news."""

    @property
    def title(self) -> str:
        """Its heading."""
        return TITLES[self.kind]


class Shelves:
    """The models that are known without the hub, with the text that words are looked for in."""

    def __init__(self, rows: Sequence[ModelRow] = (), picks: Sequence[ShelfPick] = ()) -> None:
        by_name = {row.name: row for row in rows}
        self._texts = {
            row.name: f"{row.name} {row.title} {row.note} {row.license}".lower() for row in rows
        }
        self._disk = [ModelEntry(row=row) for row in rows if row.on_disk]
        self._shelf = [
            ModelEntry(row=by_name[pick.name], pick=pick)
            for pick in picks
            if pick.name in by_name and not by_name[pick.name].on_disk
        ]
        shelved = {entry.name for entry in self._shelf}
        self._catalog = [
            ModelEntry(row=row) for row in rows if not row.on_disk and row.name not in shelved
        ]
        self.rows = by_name

    def sections(self, typed: str, transfers: Sequence[Transfer]) -> list[Section]:
        """Those that have the words; what is on its way stands on top and nowhere else."""
        words = typed.lower().split()
        under_way = {transfer.name for transfer in transfers}

        def matching(entries: Iterable[ModelEntry]) -> tuple[Entry, ...]:
            return tuple(
                entry
                for entry in entries
                if entry.name not in under_way and has_words(self._texts[entry.name], words)
            )

        moving: tuple[Entry, ...] = tuple(
            TransferEntry(transfer=transfer)
            for transfer in transfers
            if has_words(transfer.name.lower(), words)
        )
        found = (
            Section(kind="transfers", entries=moving),
            Section(kind="disk", entries=matching(self._disk)),
            Section(kind="shelf", entries=matching(self._shelf)),
            Section(kind="catalog", entries=matching(self._catalog)),
        )
        return [section for section in found if section.entries]


def listed(
    typed: str,
    shelves: Shelves,
    transfers: Sequence[Transfer],
    paths: Sequence[FoundPath],
    search: HubSearch,
) -> list[Section]:
    """All sections for what is typed: a path means the disk alone, all else the hub, too."""
    if is_path(typed):
        entries = tuple(PathEntry(path=path) for path in paths)
        note = "" if entries else "nothing there begins so"
        return [Section(kind="paths", entries=entries, note=note)]
    named = parse_hub_name(typed)
    words = str(named) if named is not None else typed
    found: list[Entry] = [*search.rows]
    if named is not None:
        there = {entry.name.lower() for entry in found}
        if str(named).lower() not in there and str(named) not in shelves.rows:
            found.insert(0, NamedEntry(name=str(named)))
    note, hint = _hub_note(search, bool(found))
    trouble = search.state in ("offline", "failed")
    hub = Section(kind="hub", entries=tuple(found), note=note, hint=hint, trouble=trouble)
    return [*shelves.sections(words, transfers), hub]


def _hub_note(search: HubSearch, found: bool) -> tuple[str, str]:
    if search.state == "offline":
        hint = search.hint or "check the network, a proxy, or HF_ENDPOINT"
        shown = "shown is what was found before; " if found else ""
        return f"offline: {search.message}", f"{shown}what is on disk loads as ever; {hint}"
    if search.state == "failed":
        return search.message, search.hint
    if found:
        return "", ""
    if search.state == "idle":
        return "type to search the hub; the line above says by what it sorts", ""
    return ("searching…" if search.state == "searching" else "nothing found"), ""
