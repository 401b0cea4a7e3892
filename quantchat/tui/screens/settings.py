"""The settings, drawn from the schema: what a row looks like follows from its kind."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Button, Input, Select, Static, Switch, TextArea

from quantchat.errors import SettingsError
from quantchat.quant.registry import SCHEMES
from quantchat.settings.schema import SETTINGS, SettingSpec
from quantchat.tui import figures
from quantchat.tui.screens.base import AppDialog
from quantchat.tui.widgets.bars import Activity, Key, KeyBar

KEYS = (
    Key(key="tab", text="next"),
    Key(key="enter", text="change"),
    Key(key="^f", text="filter", action="screen.filter"),
    Key(key="esc", text="close", action="screen.leave"),
)
OWN_THEMES = ("ink", "paper", "phosphor")


class SettingsScreen(AppDialog[None]):
    """Every change takes effect at once and is saved."""

    CSS_PATH = ["lists.tcss", "settings.tcss"]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("ctrl+f", "filter", "Filter", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._seen = self.desk.preferences.settings

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static("Settings", id="title")
            yield Input(placeholder="Filter", id="filter")
            with VerticalScroll(id="rows", can_focus=False):
                section = ""
                for spec in SETTINGS:
                    if spec.section != section:
                        section = spec.section
                        yield Static(section, classes="section")
                    with Horizontal(id=f"row-{spec.key}", classes="row"):
                        with Vertical(classes="words"):
                            yield Static(spec.title, classes="name")
                            yield Static(self._help(spec), classes="help", markup=False)
                        yield self._control(spec)
            yield Activity(id="activity")
            yield KeyBar(KEYS, id="keys")

    def on_mount(self) -> None:
        self.query_one("#activity").display = False
        self.query_one("#set-scheme").focus()
        self.set_interval(0.15, self._tick)

    def on_select_changed(self, event: Select.Changed) -> None:
        event.stop()
        if event.value is not Select.NULL:
            self._change(event.select, str(event.value))

    def on_switch_changed(self, event: Switch.Changed) -> None:
        event.stop()
        self._change(event.switch, event.value)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.input.id == "filter":
            self._filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.input.id == "filter":
            self.focus_next()
        else:
            self._parse(event.input)

    def on_input_blurred(self, event: Input.Blurred) -> None:
        event.stop()
        if event.input.id != "filter":
            self._parse(event.input)

    def on_descendant_blur(self) -> None:
        self._keep_areas()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.action_leave()
        scheme = event.button.id == "set-scheme"
        self.app.call_later(self.desk.action_schemes if scheme else self.desk.action_models)

    def action_filter(self) -> None:
        """Go to the filter."""
        self.query_one("#filter").focus()

    def action_leave(self) -> None:
        """Keep what was typed and close."""
        self._keep_areas()
        focused = self.focused
        if isinstance(focused, Input) and focused.id != "filter":
            self._parse(focused)
        self.dismiss(None)

    def _help(self, spec: SettingSpec) -> str:
        if spec.choices_from != "schemes" or spec.key != "scheme":
            return spec.help
        scheme = SCHEMES.get(self.desk.preferences.settings.scheme)
        return scheme.summary if scheme is not None else spec.help

    def _control(self, spec: SettingSpec) -> Widget:
        value = self.desk.preferences.settings.value(spec.key)
        name = f"set-{spec.key}"
        if spec.kind == "bool":
            return Switch(bool(value), animate=False, id=name)
        if spec.choices_from == "models" or spec.key == "scheme":
            return Button(_label(str(value)), id=name, compact=True)
        if spec.kind == "choice":
            words = self._choices(spec)
            if value not in words:
                words.append(str(value))
            options = [(word, word) for word in words]
            return Select(options, value=str(value), allow_blank=False, compact=True, id=name)
        if spec.kind == "multiline":
            return TextArea(str(value), id=name, compact=True, soft_wrap=True)
        return Input(str(value), id=name, compact=True)

    def _choices(self, spec: SettingSpec) -> list[str]:
        if spec.choices_from == "schemes":
            return ["auto", *SCHEMES]
        if spec.choices_from == "themes":
            others = sorted(set(self.app.available_themes) - set(OWN_THEMES))
            return [*OWN_THEMES, *others]
        return list(spec.choices)

    def _change(self, control: Widget, value: object) -> None:
        key = (control.id or "").removeprefix("set-")
        # Select and Switch report their first value on mount; only a change counts.
        if value == self.desk.preferences.settings.value(key):
            return
        try:
            self.desk.set_value(key, value)
        except SettingsError as error:
            self.notify(str(error), severity="error")

    def _parse(self, control: Input) -> None:
        key = (control.id or "").removeprefix("set-")
        spec = next(spec for spec in SETTINGS if spec.key == key)
        try:
            value = spec.parse(control.value)
        except SettingsError as error:
            self.notify(str(error), severity="error")
            control.value = str(self.desk.preferences.settings.value(key))
            return
        self._change(control, value)

    def _keep_areas(self) -> None:
        for area in self.query(TextArea):
            self._change(area, area.text)

    def _filter(self, text: str) -> None:
        words = text.lower().split()
        for spec in SETTINGS:
            said = f"{spec.key} {spec.title} {spec.help} {spec.section}".lower()
            row = self.query_one(f"#row-{spec.key}")
            row.display = all(word in said for word in words)
        for heading in self.query(".section"):
            heading.display = not words

    def _tick(self) -> None:
        text, share = self.desk.status.activity()
        self.query_one("#activity", Activity).show(text, share)
        settings = self.desk.preferences.settings
        if settings is self._seen:
            return
        # A load that failed takes its setting back; the row must say so.
        self._seen = settings
        self.query_one("#set-scheme", Button).label = _label(settings.scheme)
        spec = next(spec for spec in SETTINGS if spec.key == "scheme")
        self.query_one("#row-scheme .help", Static).update(self._help(spec))
        for select in self.query(Select):
            wanted = settings.value((select.id or "").removeprefix("set-"))
            if select.value != wanted:
                select.value = wanted


def _label(value: str) -> str:
    """A value that a screen of its own chooses."""
    return f"{figures.model_name(value)[:22]} …"
