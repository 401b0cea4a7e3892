"""The key line of the model picker: what does something with the entry under the cursor."""

from __future__ import annotations

from collections.abc import Sequence

from quantchat.tui.control.hub_finds import RepoEntry
from quantchat.tui.control.picking import (
    Entry,
    ModelEntry,
    NamedEntry,
    PathEntry,
    TransferEntry,
    VariantEntry,
)
from quantchat.tui.control.transfers import UNDER_WAY
from quantchat.tui.widgets.bars import Key

CLOSE = Key(text="close", action="screen.leave")
SORT = Key(text="sort", action="screen.sort")
FIGURES = Key(text="figures", action="screen.figures")
VARIANTS = Key(text="variants", action="screen.variants")
QUEUE = Key(text="only fetch", action="screen.queue")
AGAIN = Key(text="ask again", action="screen.again")


def keys_for(entry: Entry | None) -> Sequence[Key]:
    """The keys that do something with an entry, the most important ones first."""
    if isinstance(entry, TransferEntry):
        waits = entry.transfer.phase in UNDER_WAY
        first = Key(key="enter", text="load when it came", action="screen.take")
        stop = Key(text="stop" if waits else "go on", action="screen.stop")
        return (first, stop, Key(text="drop", action="screen.delete"), FIGURES, CLOSE, SORT)
    if isinstance(entry, ModelEntry):
        if entry.row.on_disk:
            load = Key(key="enter", text="load", action="screen.take")
            delete = Key(text="delete", action="screen.delete")
            return (load, FIGURES, VARIANTS, delete, CLOSE, SORT, AGAIN)
        fetch = Key(key="enter", text="fetch and load", action="screen.take")
        return (fetch, QUEUE, FIGURES, VARIANTS, CLOSE, SORT, AGAIN)
    if isinstance(entry, VariantEntry):
        keys = (*_variant(entry), FIGURES, CLOSE, AGAIN)
        return tuple(dict.fromkeys(keys))
    if isinstance(entry, RepoEntry | NamedEntry):
        look = Key(key="enter", text="variants", action="screen.take")
        return (look, SORT, AGAIN, CLOSE)
    if isinstance(entry, PathEntry):
        text = "look into it" if entry.path.kind == "folder" else "load"
        tab = Key(text="complete", action="screen.complete")
        return (Key(key="enter", text=text, action="screen.take"), tab, CLOSE)
    return (Key(key="enter", text="look for it", action="screen.take"), SORT, AGAIN, CLOSE)


def _variant(entry: VariantEntry) -> Sequence[Key]:
    if entry.blocked:
        return (AGAIN,)
    if entry.row is not None:
        load = Key(text="load", action="screen.take")
        return (load, Key(text="delete", action="screen.delete"))
    if entry.transfer is None:
        return (Key(text="fetch and load", action="screen.take"), QUEUE)
    text = "stop" if entry.transfer.phase in UNDER_WAY else "go on"
    return (
        Key(text="load when it came", action="screen.take"),
        Key(text=text, action="screen.stop"),
        Key(text="drop", action="screen.delete"),
    )
