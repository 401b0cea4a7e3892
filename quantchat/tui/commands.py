"""Every action of the app as an entry of the command palette."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING, TypeAlias

from textual.app import SystemCommand
from textual.command import CommandList, CommandPalette
from textual.screen import Screen

from quantchat.quant.registry import SCHEMES
from quantchat.tui.keymap import key_of, short_key
from quantchat.tui.screens.base import AppDialog, AppScreen
from quantchat.tui.screens.chat import ChatScreen

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp


class Palette(CommandPalette):
    """Textual's, which fails when its list is paged before it has been laid out."""

    def _action_command_list(self, action: str) -> None:
        if self.query_one(CommandList).size.height:
            super()._action_command_list(action)


def open_palette(app: QuantchatApp) -> None:
    """Show every action by name."""
    if not isinstance(app.screen, CommandPalette):
        # No id, as Textual gives it: one may be below a help, or be on its way out.
        app.push_screen(Palette())


Row: TypeAlias = tuple[str, str, Callable[[], object]]
"""Title, what it does, and what does it."""
WRITTEN_KEY = re.compile(r" \([^()]*\)$")


def with_keys(
    app: QuantchatApp, screen: Screen[object], entries: Iterable[SystemCommand]
) -> Iterable[SystemCommand]:
    """The entries, each with the key that its action has now."""
    for entry in entries:
        name = getattr(entry.callback, "__name__", "")
        action = name.removeprefix("action_") if name.startswith("action_") else ""
        key = key_of(app, type(screen), action) if action else ""
        if key:
            said = WRITTEN_KEY.sub("", entry.help)
            yield SystemCommand(entry.title, f"{said} ({short_key(key)})", entry.callback)
        else:
            yield entry


def commands(app: QuantchatApp, screen: Screen[object]) -> Iterable[SystemCommand]:
    """App-wide actions, then those of the chat, then schemes and themes by name."""
    if isinstance(screen, ChatScreen):
        yield from starmap(SystemCommand, _of_the_chat(screen))
        yield from starmap(SystemCommand, _from_the_chat(app))
        yield SystemCommand(
            "Dial", "Turn through the schemes that can run here", screen.action_dial
        )
        for scheme in SCHEMES.values():
            choose = partial(app.set_value, "scheme", scheme.name)
            yield SystemCommand(f"Scheme: {scheme.name}", scheme.summary, choose)
    if isinstance(screen, AppScreen | AppDialog):
        yield from screen.commands()
    for theme in sorted(app.available_themes):
        put_on = partial(app.set_value, "theme", theme)
        yield SystemCommand(f"Theme: {theme}", "Colours of the app", put_on)
    yield SystemCommand("Log", "What was written to the log, at its end", app.action_log)
    yield SystemCommand(
        "Read the keys again", "The table [keys] of the settings file", app.action_read_keys
    )
    if app.new_engine is not None:
        yield SystemCommand(
            "Restart the engine", "For when it seems stuck", app.action_restart_engine
        )
    yield SystemCommand("Keys", "Every key (f1)", app.action_help)
    yield SystemCommand("Quit", "Leave quantchat (ctrl+q)", app.exit)


def _of_the_chat(screen: ChatScreen) -> tuple[Row, ...]:
    """What is done in the conversation itself."""
    back, on = partial(screen.action_flip, -1), partial(screen.action_flip, 1)
    choose, unfold = partial(screen.action_choose, -1), screen.prompt.action_unfold_paste
    return (
        ("New chat", "Begin an empty conversation (ctrl+n)", screen.action_new),
        ("Answer again", "Regenerate; the old answer is kept (ctrl+r)", screen.action_regenerate),
        ("Continue the answer", "Go on where it stopped (ctrl+g)", screen.action_go_on),
        ("Stop", "Stop the answer or the load (escape)", screen.action_stop),
        ("Choose a message", "Edit, copy, flip or fold any message (ctrl+up)", choose),
        ("Edit the last message", "Sent again, it begins a branch", screen.action_edit_last),
        ("Write in your own editor", "$VISUAL or $EDITOR (alt+e)", screen.action_editor),
        ("Unfold a paste", "The one at the cursor, or the last (alt+p)", unfold),
        ("Context", "What to do when it is nearly full (f9)", screen.action_context),
        ("Previous version of the answer", "Flip to the one before (alt+left)", back),
        ("Next version of the answer", "Flip to the next (alt+right)", on),
        ("Copy the last answer", "As Markdown (f3)", screen.action_copy_answer),
        ("Copy the last code block", "Only the code (f4)", screen.action_copy_block),
        ("Show or hide the meters", "Latency and memory (ctrl+b)", screen.action_toggle_meters),
        ("Latency", "The whole conversation, plotted by answer (f6)", screen.action_latency),
        ("Explain a meter", "What it measures, how, what it leaves out (f7)", screen.action_meters),
    )


def _from_the_chat(app: QuantchatApp) -> tuple[Row, ...]:
    """Where the conversation leads, and what is done with it as a whole."""
    options = "System prompt, sampling preset, tags, title"
    return (
        ("Conversations", "Open, search, rename, delete (ctrl+l)", app.action_conversations),
        ("Options of this conversation", options, app.action_options),
        ("Export this conversation", "As Markdown or JSON, or copied", app.action_export),
        ("Import a conversation", "Markdown or JSON of quantchat", app.action_import_files),
        ("Pin this conversation", "Keep it at the top of the list, or not", app.action_pin_chat),
        ("Delete this conversation", "It can be brought back", app.action_delete_chat),
        ("Bring back a deleted conversation", "What was deleted last", app.action_undelete),
        ("Models", "Load, fetch or delete a model (ctrl+o)", app.action_models),
        ("Schemes", "What each costs here, and choose one (f5)", app.action_schemes),
        ("Settings", "Sampling, KV, theme (ctrl+s)", app.action_settings),
        ("Side by side", "Two schemes, one prompt (ctrl+t)", app.action_compare),
        ("Themes", "Colours, seen before they are kept", app.action_themes),
    )
