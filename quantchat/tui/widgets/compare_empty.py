"""What stands in a pane of side by side before anything was asked."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from quantchat.comparing.record import Mode
from quantchat.tui.markup.palette import Palette
from quantchat.tui.widgets.painted import Painted

WORDS: dict[Mode, tuple[tuple[str, str], tuple[str, str]]] = {
    "free": (
        ("This side writes", "Both answer the same prompt with the same seed."),
        ("and so does this one", "The first token in which they part is marked in both."),
    ),
    "guided": (
        ("This side writes", "The other one is asked about each of its tokens."),
        ("This side scores", "Colours say how far it would have gone another way."),
    ),
    "blind": (
        ("One of the two writes here", "Which one is told after your vote."),
        ("and the other one here", "You see both answers once both have ended."),
    ),
}

BESIDE_ROWS = 2
"""Of a pane: its head and its meters."""


class CompareEmpty(Painted):
    """Two lines in the middle of a pane."""

    def __init__(self, place: int) -> None:
        super().__init__(classes="empty")
        self._place = place
        self._mode: Mode = "free"

    def show(self, mode: Mode) -> None:
        """What the mode that is on does here."""
        if mode != self._mode:
            self._mode = mode
            self.refresh()

    def render(self) -> Content:
        """In the middle of what room there is."""
        title, words = WORDS[self._mode][self._place]
        width, height = self.size
        lines = self._lines(title, words, self.palette, width)
        # A pane with a legend begins lower; both panes say it on the same line.
        legend = max(0, self.parent_height - height - BESIDE_ROWS)
        above = max(0, (height + legend - len(lines)) // 2 - legend)
        return Content("\n").join([*[Content("")] * above, *lines])

    @property
    def parent_height(self) -> int:
        """Rows of the pane."""
        pane = self.parent
        assert isinstance(pane, Widget)
        return pane.size.height

    @staticmethod
    def _lines(title: str, words: str, palette: Palette, width: int) -> list[Content]:
        room = max(8, width - 2)
        lines = [
            *Content.styled(title, palette.base).wrap(room),
            *Content.styled(words, palette.muted).wrap(room),
        ]
        return [Content(" " * max(0, (width - line.cell_length) // 2)) + line for line in lines]
