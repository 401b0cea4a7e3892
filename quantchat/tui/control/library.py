"""Models on disk and in the catalog as one list, for the picker and the first start.

Owns nothing but the view: files belong to `quantchat.hub`, imported when used; what is fetched to
`transfers`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from quantchat.hub.search import FoundRepo, Sort
    from quantchat.hub.variants import Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A model as a line of the picker."""

    name: str
    """What loads or fetches it."""
    title: str
    size_bytes: int
    """On disk, or to be fetched; 0 when not known."""
    on_disk: bool
    removable: bool = False
    """Fetched by quantchat, so it may delete it."""
    parameters: int = 0
    license: str = ""
    note: str = ""
    gated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfPick:
    """A recommendation: which of the rows, and why."""

    name: str
    """Of its row."""
    scheme: str
    """That fits such a device."""
    memory: str
    """The class of device, such as 8 GiB."""
    best: bool = False
    """The one for this machine."""


class Library(Protocol):
    """What the app asks of the model store; every method may block and is run in a thread."""

    def rows(self) -> list[ModelRow]:
        """On disk first, then what can be fetched."""

    def shelf(self) -> list[ShelfPick]:
        """Recommended models, the smallest device first."""

    def find(self, name: str) -> ModelRow | None:
        """The row of a name, path or repository id; None when nobody knows it."""

    def remove(self, name: str) -> int:
        """Delete it; the bytes freed."""

    def search(self, query: str, sort: Sort, cancel: threading.Event) -> list[FoundRepo]:
        """Repositories of the hub that match, best first; raises Cancelled, SourceError."""

    def offer(self, repo: str, cancel: threading.Event) -> Offer:
        """What a repository has to fetch; raises Cancelled, SourceError."""
