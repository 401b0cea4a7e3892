"""The lines at the edges of a screen: what runs, what is on its way, which keys there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from quantchat.events import ModelInfo
from quantchat.tui import figures
from quantchat.tui.keymap import key_of, short_key
from quantchat.tui.widgets.painted import Painted
from quantchat.tui.widgets.turn import click

DIAL = "screen.dial(0)"
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class TopBar(Painted):
    """The app's name, the model that answers, the title of what is open."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._info: ModelInfo | None = None
        self._state = ""
        self._title = ""

    def show(self, info: ModelInfo | None, state: str, title: str) -> None:
        """Set all three parts; `state` stands in for a model that is not there yet."""
        if (info, state, title) != (self._info, self._state, self._title):
            self._info, self._state, self._title = info, state, title
            self.refresh()

    def render(self) -> Content:
        """One line, the title cut to what is left."""
        palette, width = self.palette, self.size.width
        left = [Content.styled(" ◆ quantchat", palette.accent)]
        if self._info is not None:
            info = self._info
            left += [
                Content("   "),
                click(figures.model_name(info.model), "app.models", palette.strong),
            ]
            parts = ((info.scheme, DIAL), (f"kv {info.kv}", DIAL), (info.device, "app.settings"))
            for part, action in parts:
                left += [Content.styled(" · ", palette.faint), click(part, action, palette.primary)]
        if self._state:
            left += [Content("   "), Content.styled(self._state, palette.muted)]
        line = Content.assemble(*left).truncate(width)
        room = width - line.cell_length - 3
        if self._title and room > 8:
            title = Content.styled(self._title, palette.muted).truncate(room, ellipsis=True)
            line = Content.assemble(line, " " * (room - title.cell_length + 2), title)
        return line


class Activity(Painted):
    """One line about what is on its way; hidden when nothing is."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = ""
        self._share: float | None = None
        self._ticks = 0

    def show(self, text: str, share: float | None) -> None:
        """Text beside a bar, or beside a spinner when `share` is not known; "" hides it."""
        self._ticks += 1
        self._text, self._share = text, share
        self.display = bool(text)
        if text:
            self.refresh()

    def render(self) -> Content:
        """Spinner, bar, text."""
        palette, width = self.palette, self.size.width
        parts = [Content.styled(f" {SPINNER[self._ticks % len(SPINNER)]} ", palette.accent)]
        if self._share is not None:
            cells = max(8, min(30, width // 4))
            full, empty = figures.bar(self._share, cells)
            parts += [
                Content.styled(full, palette.primary + palette.user),
                Content.styled(empty, palette.user),
                Content.styled(f" {self._share * 100:3.0f} % ", palette.strong),
            ]
        parts.append(Content.styled(f" {self._text}", palette.muted))
        return Content.assemble(*parts).truncate(width, ellipsis=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as the bottom line shows it."""

    key: str = ""
    """What is shown of an action without a binding; a binding's key stands in for it."""
    text: str
    action: str = ""
    """Run when it is clicked."""


class KeyBar(Painted):
    """As many keys as fit, the most important ones first."""

    def __init__(self, keys: Sequence[Key], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._keys = tuple(keys)

    def show(self, keys: Sequence[Key]) -> None:
        """Other keys."""
        if tuple(keys) != self._keys:
            self._keys = tuple(keys)
            self.refresh()

    def render(self) -> Content:
        """Keys from left to right until the line is full."""
        palette, width = self.palette, self.size.width
        line = Content(" ")
        for key in self._keys:
            bound = key_of(self.app, type(self.screen), key.action) if key.action else ""
            shown = short_key(bound) if bound else key.key
            name = (
                click(shown, key.action, palette.primary)
                if key.action
                else Content.styled(shown, palette.primary)
            )
            text = f" {key.text}  "
            label = (
                click(text, key.action, palette.muted)
                if key.action
                else Content.styled(text, palette.muted)
            )
            if line.cell_length + name.cell_length + label.cell_length - 2 > width:
                break
            line = Content.assemble(line, name, label)
        return line.truncate(width)
