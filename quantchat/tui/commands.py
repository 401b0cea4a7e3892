"""Every action of the app as an entry of the command palette."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

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
        app.push_screen(Palette(id="--command-palette"))


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
        yield SystemCommand("New chat", "Begin an empty conversation (ctrl+n)", screen.action_new)
        yield SystemCommand(
            "Answer again", "Regenerate; the old answer is kept (ctrl+r)", screen.action_regenerate
        )
        yield SystemCommand(
            "Continue the answer", "Go on where it stopped (ctrl+g)", screen.action_go_on
        )
        yield SystemCommand("Stop", "Stop the answer or the load (escape)", screen.action_stop)
        yield SystemCommand(
            "Choose a message",
            "Edit, copy, flip or fold any message (ctrl+up)",
            lambda: screen.action_choose(-1),
        )
        yield SystemCommand(
            "Edit the last message", "Sent again, it begins a branch", screen.action_edit_last
        )
        yield SystemCommand(
            "Write in your own editor", "$VISUAL or $EDITOR (alt+e)", screen.action_editor
        )
        yield SystemCommand(
            "Unfold a paste",
            "The one at the cursor, or the last (alt+p)",
            screen.prompt.action_unfold_paste,
        )
        yield SystemCommand(
            "Context", "What to do when it is nearly full (f9)", screen.action_context
        )
        yield SystemCommand(
            "Previous version of the answer",
            "Flip to the one before (alt+left)",
            lambda: screen.action_flip(-1),
        )
        yield SystemCommand(
            "Next version of the answer",
            "Flip to the next (alt+right)",
            lambda: screen.action_flip(1),
        )
        yield SystemCommand("Copy the last answer", "As Markdown (f3)", screen.action_copy_answer)
        yield SystemCommand(
            "Copy the last code block", "Only the code (f4)", screen.action_copy_block
        )
        yield SystemCommand(
            "Show or hide the meters", "Latency and memory (ctrl+b)", screen.action_toggle_meters
        )
        yield SystemCommand(
            "Latency", "The whole conversation, plotted by answer (f6)", screen.action_latency
        )
        yield SystemCommand(
            "Explain a meter",
            "What it measures, how, what it leaves out (f7)",
            screen.action_meters,
        )
        yield SystemCommand(
            "Conversations", "Open, search, rename, delete (ctrl+l)", app.action_conversations
        )
        yield SystemCommand(
            "Options of this conversation",
            "System prompt, sampling preset, tags, title",
            app.action_options,
        )
        yield SystemCommand(
            "Export this conversation", "As Markdown or JSON, or copied", app.action_export
        )
        yield SystemCommand(
            "Import a conversation", "Markdown or JSON of quantchat", app.action_import_files
        )
        yield SystemCommand(
            "Pin this conversation", "Keep it at the top of the list, or not", app.action_pin_chat
        )
        yield SystemCommand(
            "Delete this conversation", "It can be brought back", app.action_delete_chat
        )
        yield SystemCommand(
            "Bring back a deleted conversation", "What was deleted last", app.action_undelete
        )
        yield SystemCommand("Models", "Load, fetch or delete a model (ctrl+o)", app.action_models)
        yield SystemCommand(
            "Schemes", "What each costs here, and choose one (f5)", app.action_schemes
        )
        yield SystemCommand("Settings", "Sampling, KV, theme (ctrl+s)", app.action_settings)
        yield SystemCommand("Side by side", "Two schemes, one prompt (ctrl+t)", app.action_compare)
        yield SystemCommand("Themes", "Colours, seen before they are kept", app.action_themes)
        yield SystemCommand(
            "Dial", "Turn through the schemes that can run here", screen.action_dial
        )
        for scheme in SCHEMES.values():
            yield SystemCommand(
                f"Scheme: {scheme.name}",
                scheme.summary,
                lambda name=scheme.name: app.set_value("scheme", name),
            )
    if isinstance(screen, AppScreen | AppDialog):
        yield from screen.commands()
    for theme in sorted(app.available_themes):
        yield SystemCommand(
            f"Theme: {theme}", "Colours of the app", lambda name=theme: app.set_value("theme", name)
        )
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
