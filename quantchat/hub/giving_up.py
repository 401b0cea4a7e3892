"""Giving an unfinished download up: off the list, its bytes deleted."""

from __future__ import annotations

from quantchat.hub.downloads import unwant
from quantchat.hub.names import entry_for
from quantchat.hub.partial import discard_partial


def give_up(name: str) -> int | None:
    """The bytes freed; None where no download of that name was begun or waits.

    Raises UsageError while a live process works at it.
    """
    entry = entry_for(name.strip())
    key = name if entry is None else entry.alias
    freed_bytes = discard_partial(key)
    listed = unwant(key)
    return freed_bytes or 0 if listed or freed_bytes is not None else None
