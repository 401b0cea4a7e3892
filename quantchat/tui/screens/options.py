"""Options of the open conversation: its title, tags, system prompt, and sampling of its own.

What is changed is kept when its field is left, and holds from the next answer on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Button, Input, Select, Static, TextArea

from quantchat.errors import QuantchatError, SettingsError
from quantchat.settings.presets import (
    BUILT_IN,
    SAMPLING_KEYS,
    Presets,
    drop,
    keep_prompt,
    keep_sampling,
    load_presets,
    preset_of,
)
from quantchat.settings.schema import SPECS
from quantchat.store.tags import shown, tags_from
from quantchat.tui.screens.dialog import Ask
from quantchat.tui.screens.export import ExportDialog
from quantchat.tui.screens.working import WorkingDialog
from quantchat.tui.widgets.bars import Key, KeyBar

APPS, OWN = "\n", "\n\n"
"""Choices beside the presets: no preset has such a name."""
APPS_CHOICE = (("the app's settings", APPS),)
KEYS = (
    Key(key="tab", text="next"),
    Key(key="f7", text="export", action="screen.export"),
    Key(key="esc", text="close", action="screen.leave"),
)


class OptionsScreen(WorkingDialog[None]):
    """Rows of words with a field each, as in the settings."""

    KEYS_TITLE = "This conversation"
    CSS_PATH = "options.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (70, "-wide")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f8", "leave", "Keep what is written and close", priority=True),
        Binding("f7", "export", "Export the conversation", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._presets = Presets()
        self._filling = True
        """While fields are set from here, what they report is not a change."""

    def compose(self) -> ComposeResult:
        now = self.desk.conversation.options
        with Vertical(id="box"):
            yield Static("This conversation", id="title")
            with VerticalScroll(id="rows", can_focus=False):
                yield _row(
                    "Title",
                    "Empty: taken from the first message.",
                    Input(now.title, id="opt-title"),
                )
                yield _row(
                    "Tags",
                    "Words; the list of conversations finds them as #word.",
                    Input(shown(now.tags), id="opt-tags"),
                )
                yield Static("System prompt", classes="section")
                yield TextArea(now.system_prompt, id="opt-prompt", compact=True, soft_wrap=True)
                with Horizontal(classes="beside"):
                    yield Select[str]([], prompt="out of the library …", id="prompts", compact=True)
                    yield Button("Save as …", id="save-prompt", compact=True)
                    yield Button("Forget", id="drop-prompt", compact=True)
                yield Static("Sampling", classes="section")
                with Horizontal(classes="beside"):
                    yield Select(APPS_CHOICE, allow_blank=False, id="presets", compact=True)
                    yield Button("Save as …", id="save-preset", compact=True)
                    yield Button("Forget", id="drop-preset", compact=True)
                settings = self.desk.preferences.settings
                for key in SAMPLING_KEYS:
                    spec = SPECS[key]
                    own = (now.sampling or {}).get(key)
                    field = Input(
                        "" if own is None else str(own),
                        placeholder=f"the app's: {settings.value(key)}",
                        id=f"opt-{key}",
                    )
                    yield _row(spec.title, spec.help, field)
            yield KeyBar(KEYS, id="keys")

    def on_mount(self) -> None:
        self.query_one("#opt-title").focus()
        self._read_presets()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._keep()
        self.focus_next()

    def on_descendant_blur(self) -> None:
        self._keep()

    def on_select_changed(self, event: Select.Changed) -> None:
        event.stop()
        stale = event.value != event.select.value
        if self._filling or stale or event.value is Select.NULL:
            return
        name = str(event.value)
        if event.select.id == "prompts":
            self._take_prompt(name)
        elif name == self._preset():
            return
        elif name == APPS:
            self._take_sampling({})
        elif name != OWN:
            self._take_sampling(self._presets.sampling.get(name, {}))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        match event.button.id:
            case "save-prompt":
                self._save("system prompt", self._chosen("prompts"))
            case "save-preset":
                self._save("preset", self._chosen("presets"))
            case "drop-prompt":
                self._forget("prompts", self._chosen("prompts"))
            case "drop-preset":
                self._forget("sampling", self._chosen("presets"))

    def action_leave(self) -> None:
        """Keep what is written and close; a field that is off stays in front."""
        if self._keep():
            self.dismiss(None)

    def action_export(self) -> None:
        """To a file, or to the clipboard."""
        if not self._keep():
            return
        chat = self.desk.conversation.chat
        if chat is None:
            self.notify("There is nothing to export yet.")
        else:
            self.app.push_screen(ExportDialog([chat]))

    def _keep(self) -> bool:
        """Keep all fields; False where one is off, which is said and set right."""
        if self._filling or not self.is_attached:
            return True
        sampling = self._sampling()
        if sampling is None:
            return False
        try:
            self.desk.options.change(
                title=self.query_one("#opt-title", Input).value,
                tags=tags_from(self.query_one("#opt-tags", Input).value),
                system_prompt=self.query_one("#opt-prompt", TextArea).text,
                sampling=sampling,
            )
        except QuantchatError as error:
            self.notify(str(error), severity="error")
            return False
        self._show_preset()
        return True

    def _sampling(self) -> dict[str, float | int] | None:
        """Values of its own as they are written; None where one is off."""
        values: dict[str, float | int] = {}
        for key in SAMPLING_KEYS:
            field = self.query_one(f"#opt-{key}", Input)
            if not field.value.strip():
                continue
            try:
                value = SPECS[key].parse(field.value)
            except SettingsError as error:
                self.notify(str(error), severity="error")
                before = (self.desk.conversation.options.sampling or {}).get(key)
                field.value = "" if before is None else str(before)
                return None
            assert isinstance(value, int | float)
            values[key] = value
        return values

    def _take_sampling(self, values: Mapping[str, float | int]) -> None:
        for key in SAMPLING_KEYS:
            self.query_one(f"#opt-{key}", Input).value = str(values.get(key, ""))
        self._keep()

    def _take_prompt(self, name: str) -> None:
        area = self.query_one("#opt-prompt", TextArea)
        # Replaced, not loaded: undo brings the old text back.
        area.replace(self._presets.prompts.get(name, ""), (0, 0), area.document.end)
        self._keep()

    def _save(self, what: str, name: str) -> None:
        if not self._keep():
            return
        options, path = self.desk.conversation.options, self.desk.options.presets_path

        def save(name: str | None) -> None:
            if not name or not name.strip():
                return
            if what == "preset":
                values = options.sampling or {}
                self.work(lambda: keep_sampling(path, name, values), lambda _: self._read_presets())
            else:
                text = options.system_prompt
                self.work(lambda: keep_prompt(path, name, text), lambda _: self._read_presets())

        if what == "preset" and not options.sampling:
            self.notify("There are no values of its own to save.")
        elif what != "preset" and not options.system_prompt.strip():
            self.notify("There is no system prompt to save.")
        else:
            known = "" if name in BUILT_IN else name
            self.app.push_screen(Ask(f"Name of the {what}", known), save)

    def _forget(self, kind: str, name: str) -> None:
        if not name:
            self.notify("Choose one of your own first.")
        elif name in BUILT_IN:
            self.notify(f"“{name}” is built in.")
        else:
            path = self.desk.options.presets_path
            self.work(lambda: drop(path, kind, name), lambda _: self._read_presets())

    def _chosen(self, select: str) -> str:
        value = self.query_one(f"#{select}", Select).value
        return "" if value is Select.NULL or value in (APPS, OWN) else str(value)

    def _read_presets(self) -> None:
        path = self.desk.options.presets_path
        self.work(lambda: load_presets(path), self._fill_presets)

    def _fill_presets(self, read: tuple[Presets, Sequence[str]]) -> None:
        self._presets, warnings = read
        for warning in warnings:
            self.notify(warning, severity="warning")
        self._filling = True
        choices = [
            *APPS_CHOICE,
            *((name, name) for name in self._presets.sampling),
            ("values of its own", OWN),
        ]
        presets, prompts = self.query_one("#presets", Select), self.query_one("#prompts", Select)
        text = self.query_one("#opt-prompt", TextArea).text
        known = [name for name, each in self._presets.prompts.items() if each == text]
        with presets.prevent(Select.Changed), prompts.prevent(Select.Changed):
            presets.set_options(choices)
            prompts.set_options([(name, name) for name in self._presets.prompts])
            if known:
                prompts.value = known[0]
        self._show_preset()
        # What the fields report of this comes with the next messages.
        self.call_after_refresh(self._filled)

    def _filled(self) -> None:
        self._filling = False

    def _preset(self) -> str:
        """The choice that the values are."""
        own = self.desk.conversation.options.sampling
        return APPS if not own else preset_of(self._presets, own) or OWN

    def _show_preset(self) -> None:
        """The preset that the values are, without taking it for a choice."""
        name = self._preset()
        select = self.query_one("#presets", Select)
        if select.value != name:
            with select.prevent(Select.Changed):
                select.value = name


def _row(title: str, words: str, field: Widget) -> Horizontal:
    return Horizontal(
        Vertical(
            Static(title, classes="name"),
            Static(words, classes="help", markup=False),
            classes="words",
        ),
        field,
        classes="row",
    )
