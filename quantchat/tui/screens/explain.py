"""What one meter measures, how, and what it leaves out."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from quantchat.tui.markup.palette import Palette, palette_from
from quantchat.tui.meter_words import EXPLANATIONS, unknown
from quantchat.tui.reading import Reading
from quantchat.tui.screens.base import AppDialog, has_widgets
from quantchat.tui.widgets.bars import Key, KeyBar
from quantchat.tui.widgets.meter_rows import Meter, meters

KEYS = (
    Key(text="next meter", action="screen.step(1)"),
    Key(text="meter before", action="screen.step(-1)"),
    Key(text="close", action="screen.leave"),
)
WIDEST_CELLS = 64
BORDER_CELLS = 10


class ExplainScreen(AppDialog[None]):
    """One meter; down and up go to its neighbours."""

    KEYS_TITLE = "What a meter measures"
    CSS_PATH = "meters.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,right", "step(1)", "The meter below", priority=True),
        Binding("up,left", "step(-1)", "The meter above", priority=True),
        Binding("escape,enter,question_mark,q", "leave", "Close"),
    ]

    def __init__(self, key: str, reading: Reading) -> None:
        super().__init__()
        self._key = key
        self._reading = reading

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box"):
            yield Static(id="text")
            yield KeyBar(KEYS, id="keys")

    def on_mount(self) -> None:
        self.query_one("#box").focus()
        self.call_after_refresh(self._draw)

    def on_resize(self) -> None:
        self._draw()

    def action_step(self, step: int) -> None:
        """Another meter."""
        keys = [meter.key for meter in self._meters(WIDEST_CELLS) if meter.key]
        at = keys.index(self._key) if self._key in keys else 0
        self._key = keys[(at + step) % len(keys)]
        if has_widgets(self):
            self._draw()
            self.query_one("#box").scroll_home(animate=False)

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)

    def _meters(self, width: int) -> list[Meter]:
        return meters(self._reading, width, palette_from(self.app.theme_variables))

    def _draw(self) -> None:
        if not has_widgets(self):
            return
        width = max(24, min(WIDEST_CELLS, self.size.width - BORDER_CELLS))
        now = next((each.lines for each in self._meters(width) if each.key == self._key), ())
        palette = palette_from(self.app.theme_variables)
        lines = explanation(self._key, self._reading, now, width, palette)
        self.query_one("#text", Static).update(Content("\n").join(lines))


def explanation(
    key: str, reading: Reading, now: tuple[Content, ...], width: int, palette: Palette
) -> list[Content]:
    """The words about a meter, below what it shows now."""
    words = EXPLANATIONS[key]
    lines = [Content.styled(words.title, palette.heading), Content(""), *now]
    if key == "model" and reading.info is not None and reading.info.notes:
        for note in ("", "Not as the file has it:", *reading.info.notes):
            lines += Content.styled(note, palette.warning).wrap(width) if note else [Content("")]
    why = unknown(key, reading)
    if why:
        lines += Content.styled(why, palette.warning).wrap(width)
    sections = (("", words.what), ("How: ", words.how), ("Leaves out: ", words.leaves_out))
    for head, text in sections:
        if text:
            paragraph = Content.assemble(Content.styled(head, palette.strong), text)
            lines += [Content(""), *paragraph.wrap(width)]
    return [*lines, Content("")]
