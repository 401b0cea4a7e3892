"""All meters of one answer in a window of their own: for narrow terminals and earlier answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from quantchat.tui.reading import Reading
from quantchat.tui.screens.base import AppDialog
from quantchat.tui.screens.explain import ExplainScreen
from quantchat.tui.widgets.bars import Key, KeyBar
from quantchat.tui.widgets.meters import MeterPanel

KEYS = (
    Key(key="↑↓", text="choose"),
    Key(key="?", text="what it measures", action="screen.explain"),
    Key(text="close", action="screen.leave"),
)
EVERY_S = 0.5


class MetersScreen(AppDialog[None]):
    """Follows the answer where it still runs."""

    KEYS_TITLE = "Meters of an answer"
    CSS_PATH = "meters.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,f7", "leave", "Close"),
    ]

    def __init__(self, title: str, read: Callable[[], Reading]) -> None:
        super().__init__()
        self._title = title
        self._read = read

    def compose(self) -> ComposeResult:
        with Vertical(id="box", classes="tall"):
            yield Static(self._title, id="title", markup=False)
            yield MeterPanel(id="all-meters")
            yield KeyBar(KEYS, id="keys")

    @property
    def panel(self) -> MeterPanel:
        """The meters."""
        return self.query_one(MeterPanel)

    def on_mount(self) -> None:
        self.panel.focus()
        self._draw()
        self.set_interval(EVERY_S, self._draw)

    def on_meter_panel_asked(self, event: MeterPanel.Asked) -> None:
        event.stop()
        self.app.push_screen(ExplainScreen(event.key, event.reading))

    def on_meter_panel_left(self, event: MeterPanel.Left) -> None:
        event.stop()
        self.action_leave()

    def action_explain(self) -> None:
        """What the chosen meter measures."""
        self.panel.action_explain()

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)

    def _draw(self) -> None:
        self.panel.show(self._read())
