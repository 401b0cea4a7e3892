"""One setting as a row: its name, what it does, and the control that changes it.

Owns what a row looks like and whether words match it; the screen owns what a change does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Button, Input, Select, Static, Switch, TextArea

from quantchat.settings.spec import SettingSpec, Value
from quantchat.tui import figures
from quantchat.tui.widgets.painted import Painted
from quantchat.tui.widgets.turn import click

CHOSEN_ELSEWHERE = ("model", "scheme")
"""Settings that a screen of their own chooses."""
CHANGED = "●"
DEFAULT_CELLS = 24


class SettingName(Painted):
    """The title; of a changed setting also its default, and a way back to it."""

    def __init__(self, spec: SettingSpec, value: Value) -> None:
        super().__init__(classes="name")
        self._spec = spec
        self._value = value
        self._chosen = False

    def choose(self, chosen: bool) -> None:
        """Whether its control has the focus."""
        self._chosen = chosen
        self.refresh()

    def show(self, value: Value) -> None:
        """Another value."""
        if value != self._value:
            self._value = value
            self.refresh()

    def render(self) -> Content:
        """One line."""
        spec, palette = self._spec, self.palette
        state = f": {shown_value(self._value)}" if isinstance(self._value, bool) else ""
        mark = Content.styled("▸" if self._chosen else " ", palette.primary)
        if self._value == spec.default:
            return mark + Content.styled(f"  {spec.title}{state}", palette.strong)
        default = shown_value(spec.default)
        line = Content.assemble(
            mark,
            Content.styled(f"{CHANGED} {spec.title}{state}", palette.accent),
            "  ",
            click("reset", f"screen.reset('{spec.key}')", palette.marker),
            Content.styled(f" to {default}", palette.muted),
        )
        return line.truncate(self.size.width, ellipsis=True)


class SettingRow(Horizontal):
    """Name and help at the left, the control at the right."""

    def __init__(self, spec: SettingSpec, value: Value, words: Sequence[str], help_: str) -> None:
        super().__init__(id=f"row-{spec.key}", classes="row")
        self.spec = spec
        self._value = value
        self._words = list(words)
        self._help = help_
        self._head = SettingName(spec, value)

    def compose(self) -> ComposeResult:
        with Vertical(classes="words"):
            yield self._head
            yield Static(self._help, classes="help", markup=False)
        yield control_of(self.spec, self._value, self._words)

    def on_descendant_focus(self) -> None:
        """Its control can be used now."""
        self._head.choose(True)

    def on_descendant_blur(self) -> None:
        """Another setting is chosen."""
        self._head.choose(False)

    @property
    def control(self) -> Widget:
        """What changes the setting."""
        return self.query_one(f"#set-{self.spec.key}")

    def show(self, value: Value, help_: str) -> None:
        """The value as it is now, wherever it was changed; what is being typed stays."""
        self._head.show(value)
        before, self._value = self._value, value
        if help_ != self._help:
            self._help = help_
            self.query_one(".help", Static).update(help_)
        control = self.control
        if control.has_focus and isinstance(control, Input | TextArea):
            said = control.value if isinstance(control, Input) else control.text
            if said != str(before):
                return
        if isinstance(control, Button):
            control.label = button_label(str(value))
        elif isinstance(control, Switch):
            control.value = bool(value)
        elif isinstance(control, Select | Input) and control.value != str(value):
            control.value = str(value)
        elif isinstance(control, TextArea) and control.text != value:
            control.load_text(str(value))

    def matches(self, words: Sequence[str], default: Callable[[str], Value]) -> bool:
        """Whether all words are in the name, the help or the value; "changed" finds what was."""
        spec = self.spec
        changed = "changed" if self._value != default(spec.key) else ""
        said = f"{spec.key} {spec.title} {self._help} {spec.help} {spec.section} {changed}"
        value = "on" if self._value is True else "off" if self._value is False else self._value
        text = f"{said} {value}".lower()
        return all(word in text for word in words)


def control_of(spec: SettingSpec, value: Value, words: Sequence[str]) -> Widget:
    """The control for a kind of setting."""
    name = f"set-{spec.key}"
    if spec.kind == "bool":
        return Switch(bool(value), animate=False, id=name)
    if spec.key in CHOSEN_ELSEWHERE:
        return Button(button_label(str(value)), id=name, compact=True)
    if spec.kind == "choice" and words:
        every = [*words] if value in words else [*words, str(value)]
        options = [(word, word) for word in every]
        return Select(options, value=str(value), allow_blank=False, compact=True, id=name)
    if spec.kind == "multiline":
        return TextArea(str(value), id=name, compact=True, soft_wrap=True)
    return Input(str(value), id=name, compact=True)


def button_label(value: str) -> str:
    """A value that a screen of its own chooses."""
    return f"{figures.model_name(value)[:22]} …"


def shown_value(value: Value) -> str:
    """A default in a few cells."""
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value).partition("\n")[0]
    return text[:DEFAULT_CELLS] if text else "empty"
