"""The model library over `quantchat.hub`, imported when it is first asked."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from quantchat.tui.control.library import ModelRow, ShelfPick

if TYPE_CHECKING:
    from quantchat.hub.catalog import CatalogEntry
    from quantchat.hub.local import LocalModel
    from quantchat.hub.search import FoundRepo, Sort
    from quantchat.hub.variants import Offer

FOUND_MAX = 200
"""Repositories of one answer."""


class HubLibrary:
    """Implements `Library` with the real hub."""

    def rows(self) -> list[ModelRow]:
        """On disk first, then the rest of the catalog."""
        from quantchat.hub.catalog import CATALOG
        from quantchat.hub.local import list_local

        local = [_local_row(model) for model in list_local()]
        there = {row.name for row in local}
        return local + [_entry_row(entry) for alias, entry in CATALOG.items() if alias not in there]

    def shelf(self) -> list[ShelfPick]:
        """Recommended models, the smallest device first."""
        from quantchat.hardware.probe import probe
        from quantchat.hardware.shelf_choice import best_of_shelf
        from quantchat.hub.shelf import SHELF

        best = best_of_shelf(probe())
        return [
            ShelfPick(
                name=row.alias,
                scheme=row.scheme,
                memory=f"{row.memory_gib} GiB",
                best=row == best,
            )
            for row in SHELF
        ]

    def find(self, name: str) -> ModelRow | None:
        """The row of a name; raises ModelNotFoundError for a path that leads nowhere."""
        from quantchat.errors import ModelNotFoundError
        from quantchat.hub.local import resolve
        from quantchat.hub.names import entry_for

        try:
            return _local_row(resolve(name))
        except ModelNotFoundError:
            entry = entry_for(name.strip())
            if entry is None:
                raise
            return _entry_row(entry)

    def remove(self, name: str) -> int:
        """Delete a download; the bytes freed."""
        from quantchat.hub.local import remove

        return remove(name)

    def search(self, query: str, sort: Sort, cancel: threading.Event) -> list[FoundRepo]:
        """Repositories of the hub that match, best first."""
        from quantchat.hub.search import search

        return search(query, sort=sort, limit=FOUND_MAX, cancel=cancel)

    def offer(self, repo: str, cancel: threading.Event) -> Offer:
        """What a repository has to fetch."""
        from quantchat.hub.variants import variants

        return variants(repo, cancel=cancel)


def _local_row(model: LocalModel) -> ModelRow:
    from quantchat.hub.names import entry_for

    entry = entry_for(model.name)
    where = {"download": "", "hf-cache": "in the Hugging Face cache", "file": "", "folder": ""}
    note = (entry.note if entry else "") or where[model.origin]
    return ModelRow(
        name=model.name,
        title=entry.title if entry else model.path.name,
        size_bytes=model.size_bytes,
        on_disk=True,
        removable=model.origin == "download",
        parameters=entry.parameters if entry else 0,
        license=entry.license if entry else "",
        note=note,
    )


def _entry_row(entry: CatalogEntry) -> ModelRow:
    return ModelRow(
        name=entry.alias,
        title=entry.title,
        size_bytes=entry.size_bytes,
        on_disk=False,
        parameters=entry.parameters,
        license=entry.license,
        note=entry.note,
        gated=entry.gated,
    )
