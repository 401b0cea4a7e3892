"""Questions and bad news: a title, words, and ways out with one key each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import Key
from textual.widgets import Button, Input, Static

from quantchat.tui.screens.base import AppDialog

ROW_CELLS = 66
"""Ways that need more stand below each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way out: what it is called, the key that takes it, what is returned."""

    key: str
    label: str
    result: str = ""
    note: str = ""
    """What it would bring, beside the label."""
    action: str = ""
    """Run instead of closing."""
    danger: bool = False

    @property
    def text(self) -> str:
        """As the button says it."""
        return f"{self.label} ({self.key})"


CLOSE = Way(key="c", label="Close")


class Dialog(AppDialog[str]):
    """Returns the `result` of the way taken, or "" for Escape."""

    KEYS_TITLE = "Questions"
    CSS_PATH = "dialog.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("left,up", "app.focus_previous", "The way before", show=False),
        Binding("right,down", "app.focus_next", "The next way", show=False),
    ]

    def __init__(
        self, title: str, message: str, hint: str = "", ways: Sequence[Way] = (CLOSE,)
    ) -> None:
        super().__init__()
        self._title = title
        self._message = message
        self._hint = hint
        self._ways = tuple(ways)
        self.quiet_s = 0.0
        """For so long keys are not taken: somebody was writing when it came up."""
        self._shown_s = 0.0

    def compose(self) -> ComposeResult:
        noted = [at for at, way in enumerate(self._ways) if way.note]
        rest = [at for at, way in enumerate(self._ways) if not way.note]
        with Vertical(id="box"):
            yield Static(self._title, id="title", markup=False)
            with VerticalScroll(id="words", can_focus=False):
                yield Static(self._message, id="message", markup=False)
                if self._hint and not noted:
                    yield Static(self._hint, id="hint", markup=False)
            with Vertical(id="ways"):
                for at in noted:
                    with Horizontal(classes="noted"):
                        yield self._button(at)
                        yield Static(self._ways[at].note, classes="note", markup=False)
                for row in self._rows(rest):
                    with Horizontal(classes="row-of-ways"):
                        for at in row:
                            yield self._button(at)

    def on_mount(self) -> None:
        self._shown_s = time.monotonic()

    def on_key(self, event: Key) -> None:
        if event.key != "escape" and time.monotonic() - self._shown_s < self.quiet_s:
            event.stop()
            event.prevent_default()
            return
        for way in self._ways:
            if event.key == way.key:
                event.stop()
                self._take(way)
                return

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        at = int((event.button.id or "way-0").removeprefix("way-"))
        self._take(self._ways[at])

    def action_leave(self) -> None:
        """Close without a choice."""
        self.dismiss("")

    def _take(self, way: Way) -> None:
        if way.action:
            self.call_later(self.run_action, way.action)
        else:
            self.dismiss(way.result)

    def _button(self, at: int) -> Button:
        way = self._ways[at]
        return Button(
            way.text,
            id=f"way-{at}",
            variant="error" if way.danger else "primary" if at == 0 else "default",
            compact=True,
        )

    def _rows(self, places: Sequence[int]) -> list[list[int]]:
        """Buttons side by side as far as they fit."""
        rows: list[list[int]] = []
        room = 0
        for at in places:
            cells = len(self._ways[at].text) + 5
            if not rows or cells > room:
                rows.append([])
                room = ROW_CELLS
            rows[-1].append(at)
            room -= cells
        return rows


class Ask(AppDialog[str | None]):
    """Asks for a line of text; None for Escape."""

    KEYS_TITLE = "A line of text"
    CSS_PATH = "dialog.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Close")]

    def __init__(self, title: str, value: str = "") -> None:
        super().__init__()
        self._title = title
        self._value = value

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(self._title, id="title", markup=False)
            yield Input(self._value, id="answer")
            yield Static("enter keeps it, escape leaves it", id="hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value)

    def action_leave(self) -> None:
        """Close without a text."""
        self.dismiss(None)
