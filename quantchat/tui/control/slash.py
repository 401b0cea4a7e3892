"""Commands that are typed: a slash at the start of a message, a name, maybe an argument.

The table is all there is; an action of a screen or of the app does the work. `//` at the start of
a message stands for a slash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from quantchat.errors import SettingsError
from quantchat.quant.registry import SCHEMES
from quantchat.settings.schema import spec_of

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

WRITTEN = re.compile(r"/([a-z]+)(?:\s+(.*))?\Z", re.DOTALL)

Take: TypeAlias = "Callable[[QuantchatApp, str], None]"
Choices: TypeAlias = "Callable[[QuantchatApp], Sequence[tuple[str, str]]]"
"""Words that an argument may be, each with what is said of it; may block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slash:
    """One command."""

    name: str
    summary: str
    action: str = ""
    """Run when there is no argument."""
    argument: str = ""
    """What may follow, for people; empty where nothing may."""
    take: Take | None = None
    choices: Choices | None = None


def parse(text: str) -> tuple[str, str] | None:
    """Name and argument of a message that is a command; None for any other message."""
    match = WRITTEN.match(text.strip())
    return (match[1], (match[2] or "").strip()) if match else None


def literal(text: str) -> str:
    """A message, with the slash that was written twice once."""
    return text[1:] if text.startswith("//") else text


def _set(key: str) -> Take:
    def take(app: QuantchatApp, word: str) -> None:
        try:
            app.set_value(key, word)
        except SettingsError as error:
            app.notify(f"{error.message}. {error.hint}", severity="warning")

    return take


def _model(app: QuantchatApp, word: str) -> None:
    if app.library.find(word) is None:
        app.notify(f"There is no model {word!r}; /model lists them.", severity="warning")
    else:
        app.choose_model(word)


def _scheme(app: QuantchatApp, word: str) -> None:
    if word not in SCHEMES and word not in ("auto", "stored"):
        app.notify(f"There is no scheme {word!r}; /scheme lists them.", severity="warning")
    else:
        _set("scheme")(app, word)


def _theme(app: QuantchatApp, word: str) -> None:
    if word not in app.available_themes:
        app.notify(f"There is no theme {word!r}.", severity="warning")
    else:
        _set("theme")(app, word)


def _rename(app: QuantchatApp, title: str) -> None:
    chat = app.conversation.chat
    if chat is None:
        app.notify("There is no conversation to rename yet.", severity="warning")
        return
    app.guarded(lambda: bool(app.chats.rename(chat.id, title)))
    app.guarded(lambda: app.conversation.renamed(chat.id))


def _models(app: QuantchatApp) -> list[tuple[str, str]]:
    return [
        (row.name, row.title if row.on_disk else f"{row.title}, not on disk")
        for row in app.library.rows()
    ]


def _schemes(app: QuantchatApp) -> list[tuple[str, str]]:
    return [("auto", "what the plan finds best here")] + [
        (scheme.name, scheme.summary) for scheme in SCHEMES.values()
    ]


def _kvs(app: QuantchatApp) -> list[tuple[str, str]]:
    return [(word, "") for word in spec_of("kv").choices]


def _themes(app: QuantchatApp) -> list[tuple[str, str]]:
    return [(name, "") for name in app.looks.names()]


COMMANDS: tuple[Slash, ...] = (
    Slash(name="new", summary="Begin an empty conversation", action="screen.new"),
    Slash(name="chats", summary="Open, search, rename, delete", action="app.conversations"),
    Slash(
        name="model",
        summary="Load a model, or choose one",
        action="app.models",
        argument="name",
        take=_model,
        choices=_models,
    ),
    Slash(
        name="scheme",
        summary="How weights are stored",
        action="app.schemes",
        argument="name",
        take=_scheme,
        choices=_schemes,
    ),
    Slash(
        name="kv",
        summary="Precision of the KV cache",
        action="app.schemes",
        argument="precision",
        take=_set("kv"),
        choices=_kvs,
    ),
    Slash(name="retry", summary="Answer the last question again", action="screen.regenerate"),
    Slash(name="continue", summary="Go on with a stopped answer", action="screen.go_on"),
    Slash(name="edit", summary="Edit your last message, and branch", action="screen.edit_last"),
    Slash(name="editor", summary="Write in your own editor", action="screen.editor"),
    Slash(name="copy", summary="Copy the last answer", action="screen.copy_answer"),
    Slash(name="code", summary="Copy the last code block", action="screen.copy_block"),
    Slash(
        name="rename",
        summary="Give the conversation a title",
        argument="title",
        take=_rename,
    ),
    Slash(
        name="theme",
        summary="Colours of the app",
        argument="name",
        take=_theme,
        choices=_themes,
    ),
    Slash(name="compare", summary="Two schemes side by side", action="app.compare"),
    Slash(name="meters", summary="Show or hide the meters", action="screen.toggle_meters"),
    Slash(name="context", summary="What to do when it is nearly full", action="screen.context"),
    Slash(name="settings", summary="Sampling, KV, theme", action="app.settings"),
    Slash(name="stop", summary="Stop the answer or the load", action="screen.stop"),
    Slash(name="help", summary="Every key", action="app.help"),
    Slash(name="quit", summary="Leave quantchat", action="app.quit"),
)


def find(name: str) -> Slash | None:
    """The command of that name."""
    return next((each for each in COMMANDS if each.name == name), None)
