"""Latency, speed, context and memory of an answer: as a panel, and in one line.

Owns choosing a meter and asking for its explanation; what is drawn is `meter_rows`' and measured is
nothing here. Names follow the serving field's.
"""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip

from quantchat.events import MemoryUse, Metrics
from quantchat.tui import figures
from quantchat.tui.markup.palette import Palette
from quantchat.tui.reading import Reading
from quantchat.tui.widgets.meter_rows import UNKNOWN, Meter, meters
from quantchat.tui.widgets.painted import Painted

MARK = "┃"
"""Beside the chosen meter."""
MARGIN_CELLS = 2
WHEEL_ROWS = 2


class MeterPanel(Painted, can_focus=True):
    """All meters, one below the other; with the focus one of them is chosen."""

    FOCUS_ON_CLICK = False
    """A click explains a meter; what is typed goes on to the prompt."""
    KEYS_TITLE = "Meters"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "choose(-1)", "The meter above"),
        Binding("down", "choose(1)", "The meter below"),
        Binding("home", "choose(-99)", "The first meter", id="first"),
        Binding("end", "choose(99)", "The last meter", id="last"),
        Binding("enter,question_mark", "explain", "What the meter measures"),
        Binding("escape", "leave", "Back to the prompt"),
    ]

    class Asked(Message):
        """The user wants to know what a meter measures."""

        def __init__(self, key: str, reading: Reading) -> None:
            super().__init__()
            self.key = key
            self.reading = reading

    class Left(Message):
        """The keys are wanted elsewhere."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.reading = Reading()
        self._meters: list[Meter] = []
        self._rows: list[tuple[str, Content]] = []
        self._top = 0
        self._chosen = "ttft"

    def show(self, reading: Reading) -> None:
        """New figures. Only rows that changed are painted."""
        if reading == self.reading and self._rows:
            return
        self.reading = reading
        self._redraw()

    def text_on_screen(self) -> str:
        """What the meters say, for tests."""
        return "\n".join(line.plain.rstrip() for _, line in self._rows)

    def on_resize(self) -> None:
        """The bars fill the width."""
        self._redraw()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row."""
        width, palette = self.size.width, self.palette
        base = palette.base
        row = self._top + y
        hidden = len(self._rows) - self._top - self.size.height
        if hidden > 0 and y == self.size.height - 1:
            text = f"  ↓ {hidden + 1} more lines"
            line = Content.styled(text, palette.muted)
        elif row < len(self._rows):
            key, line = self._rows[row]
            chosen = self.has_focus and key == self._chosen
            mark = Content.styled(MARK, palette.accent) if chosen else Content(" ")
            line = Content.assemble(mark, " ", line)
        else:
            line = Content("")
        return Strip(line.render_segments(base)).adjust_cell_length(width, base.rich_style)

    def action_choose(self, step: int) -> None:
        """The next or previous meter, kept in view."""
        keys = [meter.key for meter in self._meters if meter.key]
        at = keys.index(self._chosen) if self._chosen in keys else 0
        self._chosen = keys[max(0, min(len(keys) - 1, at + step))]
        self._show_chosen()
        self.refresh()

    def action_explain(self) -> None:
        """What the chosen meter measures."""
        self.post_message(self.Asked(self._chosen, self.reading))

    def action_leave(self) -> None:
        """Give the keys back."""
        self.post_message(self.Left())

    def on_focus(self) -> None:
        self._show_chosen()
        self.refresh()

    def on_blur(self) -> None:
        self._top = 0
        self.refresh()

    async def on_click(self, event: Click) -> None:
        """Explain the meter that was clicked."""
        event.stop()
        row = self._top + event.get_content_offset_capture(self).y
        if 0 <= row < len(self._rows) and self._rows[row][0]:
            self._chosen = self._rows[row][0]
            self.refresh()
            self.action_explain()

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self._scroll(WHEEL_ROWS)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self._scroll(-WHEEL_ROWS)

    def _scroll(self, rows: int) -> None:
        top = max(0, min(len(self._rows) - self.size.height, self._top + rows))
        if top != self._top:
            self._top = top
            self.refresh()

    def _show_chosen(self) -> None:
        rows = [at for at, (key, _) in enumerate(self._rows) if key == self._chosen]
        if not rows:
            return
        height = self.size.height
        first = 0 if self._chosen == self._first_key() else rows[0]
        # The row below tells how much is hidden.
        last = rows[-1] + (rows[-1] + 1 < len(self._rows))
        self._top = max(0, min(first, max(self._top, last - height + 1)))

    def _first_key(self) -> str:
        return next((meter.key for meter in self._meters if meter.key), "")

    def _repaint(self, _: object) -> None:
        super()._repaint(_)
        self._redraw()

    def _redraw(self) -> None:
        """Draw the rows anew, and have those painted that are others than before."""
        if not self.size.width:
            return
        width = max(20, self.size.width - MARGIN_CELLS)
        self._meters = meters(self.reading, width, self.palette)
        before = self._rows
        self._rows = [(meter.key, line) for meter in self._meters for line in meter.lines]
        if len(before) != len(self._rows):
            self._top = max(0, min(self._top, len(self._rows) - self.size.height))
            self.refresh()
            return
        for row, ((_, old), (_, new)) in enumerate(zip(before, self._rows, strict=True)):
            if not old.is_same(new):
                self.refresh(Region(0, row - self._top, self.size.width, 1))


class MeterLine(Painted):
    """The same in one line, for narrow terminals."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._reading = Reading()

    def show(self, metrics: Metrics | None, memory: MemoryUse | None) -> None:
        """New figures of an answer."""
        kept = {} if metrics is None else figures.kept(metrics)
        self.show_reading(Reading(kept=kept, memory=memory))

    def show_reading(self, reading: Reading) -> None:
        """New figures."""
        if reading != self._reading:
            self._reading = reading
            self.refresh()

    def render(self) -> Content:
        """The most telling meters first."""
        return meter_line(self._reading, self.size.width, self.palette)


def meter_line(reading: Reading, width: int, palette: Palette) -> Content:
    """Meters as one line of at most `width` cells, the most telling ones first."""
    kept, memory, left = reading.kept, reading.memory, reading.tokens_left
    parts: list[tuple[str, str]] = []
    if reading.answered:
        speed = kept.get("decode_tok_per_s")
        parts.append(("decode", f"{figures.speed(speed)} tok/s" if speed else UNKNOWN))
        if "ttft_s" in kept:
            parts.append(("TTFT", figures.duration(kept["ttft_s"])))
        if speed and "itl_p95_s" in kept:
            middle, high = figures.duration(kept["itl_p50_s"]), figures.duration(kept["itl_p95_s"])
            parts.append(("ITL", f"{middle}/{high}"))
        if left is not None:
            parts.append(("left", f"{figures.count(left)} tokens"))
    if memory is not None:
        parts += [
            ("weights", figures.size(memory.weight_bytes)),
            ("KV", figures.size(memory.kv_used_bytes)),
            ("free", figures.size(memory.device_free_bytes)),
            ("peak", figures.size(memory.peak_bytes)),
        ]
    line = Content(" ")
    for name, value in parts:
        piece = Content.assemble(
            Content.styled(f"{name} ", palette.muted), Content.styled(value, palette.strong), "  "
        )
        if line.cell_length + piece.cell_length - 2 > width:
            break
        line += piece
    return line
