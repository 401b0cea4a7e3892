"""Questions and bad news: a title, words, and ways out with one key each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Key
from textual.widgets import Button, Input, Static

from quantchat.tui.screens.base import AppDialog


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way out: what it is called, the key that takes it, what is returned."""

    key: str
    label: str
    result: str
    danger: bool = False


CLOSE = Way(key="c", label="Close", result="")


class Dialog(AppDialog[str]):
    """Returns the `result` of the way taken, or "" for Escape."""

    CSS_PATH = "dialog.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def __init__(
        self, title: str, message: str, hint: str = "", ways: Sequence[Way] = (CLOSE,)
    ) -> None:
        super().__init__()
        self._title = title
        self._message = message
        self._hint = hint
        self._ways = tuple(ways)

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(self._title, id="title", markup=False)
            yield Static(self._message, id="message", markup=False)
            if self._hint:
                yield Static(self._hint, id="hint", markup=False)
            with Horizontal(id="ways"):
                for at, way in enumerate(self._ways):
                    yield Button(
                        f"{way.label} ({way.key})",
                        id=f"way-{at}",
                        variant="error" if way.danger else "primary" if at == 0 else "default",
                        compact=True,
                    )

    def on_key(self, event: Key) -> None:
        for way in self._ways:
            if event.key == way.key:
                event.stop()
                self.dismiss(way.result)
                return

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        at = int((event.button.id or "way-0").removeprefix("way-"))
        self.dismiss(self._ways[at].result)

    def action_leave(self) -> None:
        """Close without a choice."""
        self.dismiss("")


class Ask(AppDialog[str | None]):
    """Asks for a line of text; None for Escape."""

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
