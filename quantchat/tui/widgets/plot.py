"""A chart on the screen: drawn when it or its size changes, clicked to choose a column."""

from __future__ import annotations

from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.strip import Strip

from quantchat.tui.widgets.painted import Painted
from quantchat.tui.widgets.plots import Columns, Curve, Drawn, draw


class Plot(Painted):
    """One chart."""

    class Picked(Message):
        """A column was clicked."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._chart: Columns | Curve | None = None
        self._drawn = Drawn(())

    def show(self, chart: Columns | Curve) -> None:
        """Another chart, or the same with other figures."""
        if chart != self._chart:
            self._chart = chart
            self._redraw()

    def text_on_screen(self) -> str:
        """What is drawn, for tests."""
        return "\n".join(line.plain.rstrip() for line in self._drawn.lines)

    def on_resize(self) -> None:
        self._redraw()

    async def on_click(self, event: Click) -> None:
        """Choose the answer below the mouse."""
        event.stop()
        index = self._drawn.column_at(event.get_content_offset_capture(self).x)
        if index is not None:
            self.post_message(self.Picked(index))

    def render_line(self, y: int) -> Strip:
        """One row."""
        width, base = self.size.width, self.palette.base
        lines = self._drawn.lines
        line = lines[y] if y < len(lines) else Content("")
        return Strip(line.render_segments(base)).adjust_cell_length(width, base.rich_style)

    def _repaint(self, _: object) -> None:
        super()._repaint(_)
        self._redraw()

    def _redraw(self) -> None:
        width, height = self.size
        if self._chart is not None and width and height:
            self._drawn = draw(self._chart, width, height, self.palette)
            self.refresh()
