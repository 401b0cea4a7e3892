"""What is said of the model under the cursor: words, and the table of what fits."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from quantchat.tui.control.about_entry import about, fits_name
from quantchat.tui.control.fits import Fits
from quantchat.tui.control.fitting import NoFits
from quantchat.tui.control.picking import Entry
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.printable import printable
from quantchat.tui.widgets.fit_table import FitTable
from quantchat.tui.widgets.fit_words import one_line


class ModelSide(Vertical, can_focus=False):
    """Beside the list where there is room, else below it, with the table or a line in its place."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._words = Static(id="about", markup=False)
        self._table = FitTable(id="fits")
        self._said = Content("")

    def compose(self) -> ComposeResult:
        yield self._words
        yield self._table

    @property
    def table(self) -> bool:
        """Whether the table is shown."""
        return bool(self._table.display)

    @table.setter
    def table(self, shown: bool) -> None:
        self._table.display = shown

    def show(
        self, entry: Entry | None, found: Fits | NoFits | None, *, loaded: str, unknown: str = ""
    ) -> None:
        """Another entry, or news of it; `unknown` is said where there is none."""
        palette = palette_from(self.app.theme_variables)
        name = fits_name(entry)
        if entry is None:
            lines = [Content.styled(printable(unknown), palette.muted)] if unknown else []
        else:
            lines = about(entry, palette, loaded=loaded)
        if name and not self.table:
            lines.append(one_line(found, palette))
        waiting = "working out what fits …" if name else ""
        self._table.show(found, waiting)
        words = Content("\n").join(lines)
        if not words.is_same(self._said):
            as_high = self._rows(words) == self._rows(self._said)
            self._said = words
            # A layout of the whole screen is spared where they take the same room as before.
            self._words.update(words, layout=not as_high)

    def _rows(self, words: Content) -> int:
        """What words take of the screen."""
        styles = self._words.styles
        rows = len(words.wrap(max(1, self._words.size.width)))
        if styles.max_height is not None:
            rows = min(rows, int(styles.max_height.value))
        return rows if styles.min_height is None else max(rows, int(styles.min_height.value))
