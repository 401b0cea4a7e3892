"""The settings, drawn from the schema: what a row looks like follows from its kind."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Button, Input, Select, Static, Switch, TextArea

from quantchat.errors import SettingsError
from quantchat.quant.registry import SCHEMES
from quantchat.settings.schema import SETTINGS, SPECS, spec_of
from quantchat.settings.spec import SettingSpec
from quantchat.tui.screens.base import AppDialog
from quantchat.tui.screens.dialog import Dialog, Way
from quantchat.tui.widgets.bars import Activity, Key, KeyBar
from quantchat.tui.widgets.setting_row import SettingRow, shown_value

KEYS = (
    Key(key="enter", text="change"),
    Key(text="close", action="screen.leave"),
    Key(text="search", action="screen.filter"),
    Key(text="reset", action="screen.reset_focused"),
    Key(text="reset all", action="screen.reset_all"),
    Key(key="tab", text="next"),
)
NAMED_AT_MOST = 12


class SettingsScreen(AppDialog[None]):
    """Typing searches, Enter goes to what was found; every change takes effect and is saved."""

    KEYS_TITLE = "Settings"
    CSS_PATH = ["lists.tcss", "settings.tcss"]  # noqa: RUF012
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (60, "-wide")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("ctrl+f", "filter", "Search", priority=True),
        Binding("f8", "reset_focused", "Reset the setting that is chosen", priority=True),
        Binding("f9", "reset_all", "Reset all settings", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._seen = self.desk.preferences.settings

    def compose(self) -> ComposeResult:
        settings = self.desk.preferences.settings
        with Vertical(id="box"):
            yield Static("Settings", id="title")
            yield Input(placeholder="Search names, explanations, values; or: changed", id="filter")
            with VerticalScroll(id="rows", can_focus=False):
                section = ""
                for spec in SETTINGS:
                    if spec.section != section:
                        section = spec.section
                        yield Static(section, classes="section")
                    value = settings.value(spec.key)
                    yield SettingRow(spec, value, self._choices(spec), self._help(spec))
                yield Static("Nothing is called so.", id="nothing")
            yield Activity(id="activity")
            yield KeyBar(KEYS, id="keys")

    def on_mount(self) -> None:
        self.query_one("#activity").display = False
        self.query_one("#nothing").display = False
        self.query_one("#filter").focus()
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
            self._to_found()
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
        """Go to the search."""
        self.query_one("#filter").focus()

    def action_leave(self) -> None:
        """Keep what was typed and close."""
        self._keep_areas()
        focused = self.focused
        if isinstance(focused, Input) and focused.id != "filter":
            self._parse(focused)
        self.dismiss(None)

    def action_reset(self, key: str) -> None:
        """A setting's default."""
        default = spec_of(key).default
        control = self.query_one(f"#set-{key}")
        if isinstance(control, Input):
            control.value = str(default)
        elif isinstance(control, TextArea):
            control.load_text(str(default))
        self._set(key, default)
        self._show()

    def action_reset_focused(self) -> None:
        """The default of the setting whose control has the focus."""
        focused = self.focused
        key = "" if focused is None else (focused.id or "").removeprefix("set-")
        if key in SPECS:
            self.action_reset(key)
        else:
            self.notify("Choose a setting first: tab goes through them.")

    def action_reset_all(self) -> None:
        """All defaults, after asking."""
        self._keep_areas()
        settings = self.desk.preferences.settings
        changed = [spec for spec in SETTINGS if settings.value(spec.key) != spec.default]
        if not changed:
            self.notify("Nothing differs from the defaults.")
            return
        names = [f"{each.title} → {shown_value(each.default)}" for each in changed]
        more = len(names) - NAMED_AT_MOST
        listed = names[:NAMED_AT_MOST] + ([f"and {more} more"] if more > 0 else [])
        ways = (
            Way(key="r", label="Reset", result="reset", danger=True),
            Way(key="c", label="Keep"),
        )

        def answer(result: str | None) -> None:
            if result == "reset":
                for spec in changed:
                    self.action_reset(spec.key)

        question = f"Reset {len(changed)} settings?" if len(changed) > 1 else "Reset one setting?"
        self.app.push_screen(Dialog(question, "\n".join(listed), "", ways), answer)

    def _help(self, spec: SettingSpec) -> str:
        if spec.key != "scheme":
            return spec.help
        scheme = SCHEMES.get(self.desk.preferences.settings.scheme)
        return scheme.summary if scheme is not None else spec.help

    def _choices(self, spec: SettingSpec) -> list[str]:
        if spec.choices_from == "schemes":
            return ["auto", *SCHEMES]
        if spec.choices_from == "themes":
            return self.desk.looks.names()
        return list(spec.choices)

    def _change(self, control: Widget, value: object) -> None:
        key = (control.id or "").removeprefix("set-")
        # Select and Switch report their first value on mount; only a change counts.
        if value != self.desk.preferences.settings.value(key):
            self._set(key, value)

    def _set(self, key: str, value: object) -> None:
        try:
            self.desk.set_value(key, value)
        except SettingsError as error:
            self.notify(str(error), severity="error")
            return
        row = self.query_one(f"#row-{key}", SettingRow)
        row.show(self.desk.preferences.settings.value(key), self._help(row.spec))

    def _parse(self, control: Input) -> None:
        spec = spec_of((control.id or "").removeprefix("set-"))
        try:
            value = spec.parse(control.value)
        except SettingsError as error:
            self.notify(str(error), severity="error")
            control.value = str(self.desk.preferences.settings.value(spec.key))
            return
        self._change(control, value)

    def _keep_areas(self) -> None:
        for area in self.query(TextArea):
            self._change(area, area.text)

    def _filter(self, text: str) -> None:
        words = text.lower().split()
        found = 0
        for row in self.query(SettingRow):
            row.display = row.matches(words, lambda key: spec_of(key).default)
            found += row.display
        for heading in self.query(".section"):
            heading.display = not words
        self.query_one("#nothing").display = not found
        self.query_one("#rows").scroll_home(animate=False)

    def _to_found(self) -> None:
        """To the control of the first setting that was found."""
        first = next((row for row in self.query(SettingRow) if row.display), None)
        if first is not None:
            first.control.focus()

    def _tick(self) -> None:
        text, share = self.desk.status.activity()
        self.query_one("#activity", Activity).show(text, share)
        if self.desk.preferences.settings is not self._seen:
            self._show()

    def _show(self) -> None:
        """The rows as the settings are: a load that failed takes its setting back."""
        settings = self._seen = self.desk.preferences.settings
        for row in self.query(SettingRow):
            row.show(settings.value(row.spec.key), self._help(row.spec))
