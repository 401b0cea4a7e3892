"""Commands that are typed: a slash at the start of a message, a name, maybe an argument.

The table is all there is; an action of a screen or of the app does the work. `//` at the start of
a message stands for a slash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from quantchat.errors import QuantchatError
from quantchat.quant.registry import SCHEMES
from quantchat.settings.schema import spec_of
from quantchat.store.tags import shown, tags_from, with_changes

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

APPS = "none"
"""The preset that takes the app's settings."""
WRITTEN = re.compile(r"/([a-z]+)(?:\s+(.*))?\Z", re.DOTALL)

Take: TypeAlias = "Callable[[QuantchatApp, str], None]"
Choices: TypeAlias = "Callable[[QuantchatApp], Sequence[tuple[str, str]]]"
"""Words that an argument may be, each with what is said of it; may block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slash:
    """One command."""

    name: str
    summary: str
    also: tuple[str, ...] = ()
    """Names that it has elsewhere."""
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


def _try(app: QuantchatApp, work: Callable[[], object], said: str = "") -> None:
    """Do something; a refusal is said in its own words."""
    try:
        work()
    except QuantchatError as error:
        app.notify(f"{error.message}. {error.hint}".strip(), severity="warning")
    else:
        if said:
            app.notify(said)


def _set(key: str) -> Take:
    return lambda app, word: _try(app, lambda: app.set_value(key, word))


def _model(app: QuantchatApp, word: str) -> None:
    def choose() -> None:
        if app.library.find(word) is None:
            app.notify(f"There is no model {word!r}; /model lists them.", severity="warning")
        else:
            app.choose_model(word)

    _try(app, choose)


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
    _try(app, lambda: app.options.change(title=title))


def _tag(app: QuantchatApp, words: str) -> None:
    """Add tags; a minus before one takes it away."""
    parts = words.split()
    gone = [part[1:] for part in parts if part.startswith("-")]
    new = [part for part in parts if not part.startswith("-")]
    tags = with_changes(app.conversation.options.tags, tags_from(" ".join(new)), gone)
    said = f"Tags: {shown(tags)}" if tags else "No tags."
    _try(app, lambda: app.options.change(tags=tags), said)


def _system(app: QuantchatApp, text: str) -> None:
    said = "The system prompt holds from the next answer on."
    _try(app, lambda: app.options.change(system_prompt=text), said)


def _preset(app: QuantchatApp, name: str) -> None:
    said = f"{name} holds from the next answer on."
    _try(app, lambda: app.options.use_preset("" if name == APPS else name), said)


def _prompt(app: QuantchatApp, name: str) -> None:
    said = "The system prompt holds from the next answer on."
    _try(app, lambda: app.options.use_prompt(name), said)


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


def _presets(app: QuantchatApp) -> list[tuple[str, str]]:
    named = [
        (name, ", ".join(f"{key} {value:g}" for key, value in values.items()))
        for name, values in app.options.presets().sampling.items()
    ]
    return [*named, (APPS, "the app's settings")]


def _prompts(app: QuantchatApp) -> list[tuple[str, str]]:
    prompts = app.options.presets().prompts
    return [(name, " ".join(text.split())[:80]) for name, text in prompts.items()]


COMMANDS: tuple[Slash, ...] = (
    Slash(
        name="new",
        also=("clear", "reset"),
        summary="Begin an empty conversation",
        action="screen.new",
    ),
    Slash(
        name="chats",
        also=("resume", "history", "search"),
        summary="Open, search, rename, delete",
        action="app.conversations",
    ),
    Slash(
        name="model",
        also=("models",),
        summary="Load a model, or choose one",
        action="app.models",
        argument="name",
        take=_model,
        choices=_models,
    ),
    Slash(
        name="scheme",
        also=("quant",),
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
    Slash(name="dial", summary="Turn through the schemes that can run here", action="screen.dial"),
    Slash(
        name="retry",
        also=("again", "regenerate"),
        summary="Answer the last question again",
        action="screen.regenerate",
    ),
    Slash(name="continue", summary="Go on with a stopped answer", action="screen.go_on"),
    Slash(name="stop", summary="Stop the answer or the load", action="screen.stop"),
    Slash(name="edit", summary="Edit your last message, and branch", action="screen.edit_last"),
    Slash(name="editor", summary="Write in your own editor", action="screen.editor"),
    Slash(name="copy", summary="Copy the last answer", action="screen.copy_answer"),
    Slash(name="code", summary="Copy the last code block", action="screen.copy_block"),
    Slash(
        name="options",
        summary="Title, tags, system prompt, sampling of this conversation",
        action="app.options",
    ),
    Slash(
        name="system",
        summary="System prompt of this conversation",
        action="app.options",
        argument="text",
        take=_system,
    ),
    Slash(
        name="prompt",
        summary="System prompt out of the library",
        action="app.options",
        argument="name",
        take=_prompt,
        choices=_prompts,
    ),
    Slash(
        name="preset",
        summary="Sampling of this conversation",
        action="app.options",
        argument="name",
        take=_preset,
        choices=_presets,
    ),
    Slash(
        name="rename",
        also=("title",),
        summary="Give the conversation a title",
        action="app.options",
        argument="title",
        take=_rename,
    ),
    Slash(
        name="tag",
        also=("tags",),
        summary="Add tags; -word takes one away",
        action="app.options",
        argument="words",
        take=_tag,
    ),
    Slash(name="pin", summary="Keep the conversation at the top, or not", action="app.pin_chat"),
    Slash(name="delete", summary="Delete the conversation", action="app.delete_chat"),
    Slash(name="undelete", summary="Bring back what was deleted last", action="app.undelete"),
    Slash(name="export", summary="To a file, as Markdown or JSON", action="app.export"),
    Slash(name="import", summary="A conversation out of a file", action="app.import_files"),
    Slash(
        name="theme",
        also=("themes",),
        summary="Colours of the app",
        action="app.themes",
        argument="name",
        take=_theme,
        choices=_themes,
    ),
    Slash(name="compare", summary="Two schemes side by side", action="app.compare"),
    Slash(name="latency", summary="The conversation, plotted", action="screen.latency"),
    Slash(name="explain", summary="What a meter measures", action="screen.meters"),
    Slash(name="meters", summary="Show or hide the meters", action="screen.toggle_meters"),
    Slash(name="context", summary="What to do when it is nearly full", action="screen.context"),
    Slash(name="settings", also=("config",), summary="Sampling, KV, theme", action="app.settings"),
    Slash(name="log", summary="The end of the log", action="app.log"),
    Slash(name="help", summary="Every key", action="app.help"),
    Slash(name="quit", also=("exit",), summary="Leave quantchat", action="app.quit"),
)


def find(name: str) -> Slash | None:
    """The command of that name, or that has it elsewhere."""
    return next((each for each in COMMANDS if name == each.name or name in each.also), None)
