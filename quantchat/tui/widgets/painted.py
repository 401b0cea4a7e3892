"""Widgets that draw themselves with the palette of the current theme."""

from __future__ import annotations

from textual.events import Click
from textual.widget import Widget

from quantchat.tui.keymap import Keyed
from quantchat.tui.markup.palette import Palette, palette_from
from quantchat.tui.widgets.turn import ACTION


class Painted(Keyed, Widget):
    """Has `palette`; is drawn anew when the theme changes."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._painted_palette: Palette | None = None

    @property
    def palette(self) -> Palette:
        """Colours of the current theme."""
        if self._painted_palette is None:
            self._painted_palette = palette_from(self.app.theme_variables)
        return self._painted_palette

    def on_mount(self) -> None:
        """Follow the theme."""
        self.app.theme_changed_signal.subscribe(self, self._repaint)

    def on_unmount(self) -> None:
        """The signal holds its subscribers, and with them the whole screen."""
        self.app.theme_changed_signal.unsubscribe(self)

    async def on_click(self, event: Click) -> None:
        """Run the action of the text that was clicked."""
        action = event.style.meta.get(ACTION)
        if action:
            event.stop()
            await self.run_action(action)

    def _repaint(self, _: object) -> None:
        self._painted_palette = None
        self.refresh()
