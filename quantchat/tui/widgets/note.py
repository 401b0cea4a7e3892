"""Lines above the prompt about what is being written: hidden when there is nothing to say."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from quantchat.tui.widgets.painted import Painted


class Note(Painted):
    """A few lines, each cut to the width."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: tuple[Content, ...] = ()
        self.display = False

    @property
    def text(self) -> str:
        """What it says."""
        return "\n".join(line.plain for line in self._lines)

    def show(self, lines: Sequence[Content]) -> None:
        """Other lines; none hides it."""
        same = len(lines) == len(self._lines) and all(
            line.is_same(old) for line, old in zip(lines, self._lines, strict=True)
        )
        if same:
            return
        self._lines = tuple(lines)
        self.display = bool(lines)
        if lines:
            self.styles.height = len(lines)
            self.refresh()

    def render(self) -> Content:
        """The lines."""
        width = max(8, self.size.width)
        return Content("\n").join(line.truncate(width, ellipsis=True) for line in self._lines)
