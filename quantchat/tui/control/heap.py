"""When the collector may be told that what is there now stays.

A full collection looks at every object of Textual, then of torch: a tenth of a second or more in
which nothing is drawn. Twice most of them are there to stay: when the app stands, and when a first
load has imported what it needs, before it reads the model.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from quantchat.events import LoadProgress
from quantchat.tui.messages import Item

THRESHOLDS = (3000, 3, 100)
"""Of the collector: small collections, and one of all that came since the start a million objects
later. Out of the box that came every fifteen keys in a long list, for as long as a frame may take.
"""


def set_apart() -> None:
    """Have the collector pass over what is there now, and seldom look at all of the rest."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


class Heap:
    """Calls `stays`, which is `set_apart` where the process is the app's own."""

    def __init__(self, stays: Callable[[], None] | None) -> None:
        self._stays = stays
        self._imported = False

    def begun(self) -> None:
        """The first frame is on the screen."""
        if self._stays is not None:
            self._stays()

    def take(self, item: Item) -> None:
        """A load may have come past its imports."""
        if self._imported or not isinstance(item, LoadProgress) or item.phase == "import":
            return
        self._imported = True
        self.begun()
