"""One line about the hub: how its answers are sorted, each way to be clicked, and what it says."""

from __future__ import annotations

from textual.content import Content

from quantchat.tui.control.hub_search import SORTS, HubSearch
from quantchat.tui.printable import printable
from quantchat.tui.widgets import bars
from quantchat.tui.widgets.painted import Painted
from quantchat.tui.widgets.turn import click


class HubLine(Painted):
    """Drawn from the search; `tick` moves its spinner."""

    def __init__(self, search: HubSearch, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._search = search
        self._ticks = 0

    def tick(self) -> None:
        """Once in a while."""
        if self._search.state == "searching":
            self._ticks += 1
            self.refresh()

    def render(self) -> Content:
        """Sorts on the left, the state on the right."""
        palette, width, search = self.palette, self.size.width, self._search
        parts = [Content.styled(" hub by ", palette.muted)]
        for sort in SORTS:
            now = sort == search.sort
            style = palette.accent if now else palette.muted
            words = f"[{sort}]" if now else f" {sort} "
            parts.append(click(words, f"screen.sort_by('{sort}')", style))
        left = Content.assemble(*parts).truncate(width)
        right = self._state().truncate(max(0, width - left.cell_length - 2), ellipsis=True)
        gap = " " * max(1, width - left.cell_length - right.cell_length - 1)
        return Content.assemble(left, gap, right).truncate(width)

    def _state(self) -> Content:
        search, palette = self._search, self.palette
        if search.state == "searching":
            spinner = bars.SPINNER[self._ticks % len(bars.SPINNER)]
            return Content.styled(f"{spinner} searching…", palette.accent)
        if search.state == "found":
            count = len(search.rows)
            return Content.styled(f"{count:,} found" if count else "nothing found", palette.muted)
        if search.state == "offline":
            return Content.styled(printable("✗ offline"), palette.warning)
        if search.state == "failed":
            return Content.styled("✗ no answer", palette.error)
        return Content("")
