"""What every key binding must do that can be seen: a table, binding -> where, after which keys, what.

A binding without an entry fails in tests/tui/test_bindings.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from model_places import picker, variants
from textual.screen import Screen
from textual.widgets import DataTable, Input, Static, TextArea
from world import World

from quantchat.tui.widgets.chat_list import ChatList
from quantchat.tui.widgets.dial import Dial
from quantchat.tui.widgets.meters import MeterPanel

Sees = Callable[[World], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a key changes, and where."""

    place: str
    sees: Sees
    """Must be another value afterwards."""
    first: tuple[str, ...] = ()
    """Pressed before it is looked at."""


def front(world: World) -> object:
    """The screen in front."""
    return world.app.screen


def focus(world: World) -> object:
    """What has the focus."""
    return world.app.focused


def ended(world: World) -> object:
    """Whether the app was told to end."""
    return world.app._exit


def row(world: World) -> object:
    """Cursor of the table in front."""
    return world.app.screen.query_one(DataTable).cursor_row


def chat_row(world: World) -> object:
    """Cursor of the list of conversations."""
    return world.app.screen.query_one(ChatList).cursor


def marks(world: World) -> object:
    """Conversations that are marked."""
    return set(world.app.screen.query_one(ChatList).marked)


def pins(world: World) -> object:
    """Conversations kept at the top."""
    return {chat.id for chat in world.app.chats.list() if chat.pinned}


def kept_chats(world: World) -> object:
    """Conversations that are not deleted."""
    return {chat.id for chat in world.app.chats.list()}


def copied(world: World) -> object:
    """What went to the clipboard."""
    return len(world.copied)


def asked(world: World) -> object:
    """Requests for answers."""
    return len(world.engine.chats)


def loaded(world: World) -> object:
    """Requests for models."""
    return len(world.engine.loads)


def path(world: World) -> object:
    """Turns of the conversation that is shown."""
    return [turn.id for turn in world.app.conversation.path]


def picked_model(world: World) -> object:
    """Cursor of the list of models."""
    return picker(world).rows.cursor


def picked_variant(world: World) -> object:
    """Cursor of the list of variants."""
    return variants(world).rows.cursor


def typed_model(world: World) -> object:
    """What is looked for among the models."""
    return picker(world).typed


def downloads(world: World) -> object:
    """Models on their way and how they stand, and how many came."""
    lines = [(line.name, line.phase) for line in world.transfers.lines]
    return lines, world.transfers.arrived


def picked(world: World) -> object:
    """The message that keys act on."""
    return world.app.chat_screen.transcript.stack.chosen


def text(world: World) -> object:
    """What is drawn of the conversation."""
    return world.app.chat_screen.transcript.text_on_screen()


def place(world: World) -> object:
    """Where the conversation is scrolled to."""
    return world.app.chat_screen.transcript.scroll_y


def written(world: World) -> object:
    """What stands in the prompt."""
    return world.app.chat_screen.prompt.text


def streams(world: World) -> object:
    """Whether an answer is on its way."""
    return world.app.conversation.answering is not None


def dialled(world: World) -> object:
    """What the dial points at; None where it is closed."""
    dial = world.app.chat_screen.query_one(Dial)
    return dial.display and dial.chosen and dial.chosen.name


def dial_kv(world: World) -> object:
    """The KV precision of the dial."""
    return world.app.chat_screen.query_one(Dial)._kv


def shows_meters(world: World) -> object:
    """Whether the meters stand beside the conversation."""
    return world.app.preferences.settings.show_meters


def meter(world: World) -> object:
    """The meter that is chosen."""
    return world.app.screen.query(MeterPanel).first()._chosen


def words(world: World) -> object:
    """The text of the window in front."""
    return str(world.app.screen.query_one("#text", Static).content)


def answer(world: World) -> object:
    """The answer that is chosen among the plots."""
    return world.app.screen._at


def said(world: World) -> object:
    """Notices."""
    return len(world.app._notifications)


def title(world: World) -> object:
    """The title of the window in front."""
    return str(world.app.screen.query_one("#title", Static).content)


def format_(world: World) -> object:
    """The file that would be written."""
    return world.app.screen.query_one("#path", Input).value


def values(world: World) -> object:
    """All settings."""
    return world.app.preferences.settings


def log_text(world: World) -> object:
    """The log as it is shown."""
    return world.app.screen.query_one("#log", TextArea).text


def themes(world: World) -> object:
    """Theme files in use."""
    return tuple(world.app.looks.names())


def theme(world: World) -> object:
    """The theme that is kept."""
    return world.app.preferences.settings.theme


def mode(world: World) -> object:
    """How two are compared."""
    return compare_screen(world).comparison.mode


def rounds(world: World) -> object:
    """What was compared."""
    return compare_screen(world).comparison.shown


def cursor(world: World) -> object:
    """The token that is looked at."""
    return compare_screen(world).comparison.cursor.at


def pane(world: World) -> object:
    """How the panes draw."""
    screen = compare_screen(world)
    return screen.left.rendered, screen.right.by_change


def votes(world: World) -> object:
    """Whether a vote is due."""
    shown = compare_screen(world).comparison.shown
    return shown is not None and shown.voting


def panes_at(world: World) -> object:
    """Where the panes are scrolled to."""
    screen = compare_screen(world)
    return [view.scroll_y for view in screen.query("TokenView, Transcript")]


def compare_screen(world: World) -> Screen[object]:
    return next(each for each in world.app.screen_stack if type(each).__name__ == "CompareScreen")


def _at(place_: str, sees: Sees, *first: str) -> Effect:
    return Effect(place=place_, sees=sees, first=first)


EFFECTS: dict[str, Effect] = {
    "app.quit": _at("chat", ended),
    "app.conversations": _at("chat", front),
    "app.options": _at("chat", front),
    "app.models": _at("chat", front),
    "app.settings": _at("chat", front),
    "app.schemes": _at("chat", front),
    "app.compare": _at("chat", front),
    "app.help": _at("chat", front),
    "app.command_palette": _at("chat", front),
    "chat.choose": _at("chat", picked),
    "chat.choose_next": _at("chat", picked, "ctrl+up", "ctrl+up"),
    "chat.copy_answer": _at("chat", copied),
    "chat.copy_block": _at("with-code", copied),
    "chat.version_before": _at("chat", path),
    "chat.version_after": _at("chat", path),
    "chat.editor": _at("chat", said),
    "chat.context": _at("chat", lambda world: (said(world), front(world))),
    "chat.stop": _at("streaming", streams),
    "chat.regenerate": _at("chat", asked),
    "chat.go_on": _at("stopped", asked),
    "chat.new": _at("chat", path),
    "chat.dial_back": _at("chat", dialled),
    "chat.dial_forward": _at("chat", dialled),
    "chat.toggle_meters": _at("chat", shows_meters),
    "chat.latency": _at("chat", front),
    "chat.meters": _at("chat", focus),
    "chat.page_back": _at("long", place),
    "chat.page_forward": _at("long", place, "ctrl+home"),
    "chat.to_start": _at("long", place),
    "chat.to_end": _at("long", place, "ctrl+home"),
    "prompt.unfold_paste": _at("pasted", written),
    "transcript.wish_edit": _at("chosen", focus),
    "transcript.wish_copy": _at("chosen", copied),
    "transcript.wish_previous": _at("chosen", path),
    "transcript.wish_next": _at("chosen", path),
    "transcript.fold_chosen": _at("chosen", text),
    "transcript.wish_leave": _at("chosen", picked),
    "dial.back": _at("dial", dialled),
    "dial.forward": _at("dial", dialled),
    "dial.first": _at("dial", dialled, "right", "right"),
    "dial.last": _at("dial", dialled),
    "dial.load": _at("dial", loaded, "right"),
    "dial.again": _at("dial", asked, "right"),
    "dial.kv": _at("dial", dial_kv),
    "dial.close": _at("dial", dialled),
    "meter_panel.choose_back": _at("meters", meter, "down"),
    "meter_panel.choose_forward": _at("meters", meter),
    "meter_panel.first": _at("meters", meter, "down", "down"),
    "meter_panel.last": _at("meters", meter),
    "meter_panel.explain": _at("meters", front),
    "meter_panel.leave": _at("meters", focus),
    "conversations.leave": _at("conversations", front),
    "conversations.move_back": _at("conversations", chat_row, "ctrl+end"),
    "conversations.move_forward": _at("conversations", chat_row, "ctrl+home"),
    "conversations.page_back": _at("conversations", chat_row, "ctrl+end"),
    "conversations.page_forward": _at("conversations", chat_row, "ctrl+home"),
    "conversations.to_end_back": _at("conversations", chat_row, "ctrl+end"),
    "conversations.to_end_forward": _at("conversations", chat_row, "ctrl+home"),
    "conversations.mark": _at("conversations", marks),
    "conversations.mark_all": _at("conversations", marks),
    "conversations.rename": _at("conversations", front),
    "conversations.import_files": _at("conversations", front),
    "conversations.pin": _at("conversations", pins),
    "conversations.tags": _at("conversations", front),
    "conversations.export": _at("conversations", front),
    "conversations.delete": _at("conversations", kept_chats),
    "conversations.undo": _at("deleted", kept_chats),
    "ask.leave": _at("rename", front),
    "tags_dialog.leave": _at("tags", front),
    "tags_dialog.to_list": _at("tags", focus),
    "tags_dialog.switch": _at("tags", lambda world: dict(world.app.screen._wanted), "down", "down"),
    "export_dialog.leave": _at("export", front),
    "export_dialog.other_format": _at("export", format_),
    "import_dialog.leave": _at("import", front),
    "import_dialog.to_list": _at("import", focus),
    "options.leave": _at("options", front),
    "options.export": _at("options", front),
    "models.leave": _at("models", front),
    "models.up": _at("models", picked_model, "down"),
    "models.down": _at("models", picked_model),
    "models.page_back": _at("models-found", picked_model, "ctrl+end"),
    "models.page_forward": _at("models-found", picked_model),
    "models.to_end_back": _at("models-found", picked_model, "ctrl+end"),
    "models.to_end_forward": _at("models-found", picked_model),
    "models.complete": _at("models", typed_model),
    "models.sort": _at("models", lambda world: picker(world).search.sort),
    "models.variants": _at("models-found", front),
    "models.again": _at("models", lambda world: len(world.fits.asked)),
    "models.figures": _at("models", lambda world: picker(world).shows_table),
    "models.queue": _at("models", downloads, "down"),
    "models.delete": _at("models", front),
    "models.stop": _at("models-downloads", downloads, "up"),
    "repo.leave": _at("repository", front),
    "repo.take": _at("repository", front),
    "repo.up": _at("repository", picked_variant, "down"),
    "repo.down": _at("repository", picked_variant),
    "repo.page_back": _at("repository", picked_variant, "end"),
    "repo.page_forward": _at("repository", picked_variant),
    "repo.to_end_back": _at("repository", picked_variant, "end"),
    "repo.to_end_forward": _at("repository", picked_variant),
    "repo.again": _at("repository", lambda world: len(world.fits.asked)),
    "repo.figures": _at("repository", lambda world: variants(world).shows_table),
    "repo.queue": _at("repository", downloads),
    "repo.delete": _at("repository-here", front),
    "repo.stop": _at("repository-here", downloads),
    "dialog.leave": _at("delete-model", front),
    "dialog.focus_previous": _at("delete-model", focus),
    "dialog.focus_next": _at("delete-model", focus),
    "schemes.load": _at("schemes", loaded, "home"),
    "schemes.leave": _at("schemes", front),
    "schemes.again": _at("schemes", asked, "home"),
    "schemes.kv": _at("schemes", title),
    "schemes.first": _at("schemes", row, "end"),
    "schemes.last": _at("schemes", row, "home"),
    "settings.leave": _at("settings", front),
    "settings.filter": _at("settings", focus, "tab"),
    "settings.reset_focused": _at("settings", values, "tab", "tab"),
    "settings.reset_all": _at("settings", lambda world: (values(world), front(world))),
    "themes.leave": _at("themes", front),
    "themes.keep": _at("themes", theme, "down"),
    "themes.read": _at("theme-file", themes),
    "latency.choose_back": _at("latency", answer, "end"),
    "latency.choose_forward": _at("latency", answer, "home"),
    "latency.first": _at("latency", answer, "end"),
    "latency.last": _at("latency", answer, "home"),
    "latency.open": _at("latency", front),
    "latency.leave": _at("latency", front),
    "meters.leave": _at("answer-meters", front),
    "explain.step_forward": _at("explain", words),
    "explain.step_back": _at("explain", words),
    "explain.leave": _at("explain", front),
    "help.leave": _at("help", front),
    "log.leave": _at("log", front),
    "log.read": _at("longer-log", log_text),
    "log.copy": _at("log", copied),
    "compare.leave": _at("compare", front),
    "compare.clear": _at("compare", rounds),
    "compare.quit_screen": _at("compare", front),
    "compare.choose_left": _at("compare", front),
    "compare.choose_right": _at("compare", front),
    "compare.next_mode": _at("compare", mode),
    "compare.export": _at("compare", front),
    "compare.view": _at("compare", pane),
    "compare.token_back": _at("compare", cursor, "alt+right", "alt+right"),
    "compare.token_forward": _at("compare", cursor),
    "compare.parting_forward": _at("compare", cursor),
    "compare.parting_back": _at("compare", cursor, "alt+down", "alt+down", "alt+right"),
    "compare.again": _at("compare", asked),
    "compare.go_on": _at("compare", front, "alt+right"),
    "compare.vote_1": _at("blind", votes),
    "compare.vote_2": _at("blind", votes),
    "compare.vote_0": _at("blind", votes),
    "compare.page_back": _at("long-compare", panes_at),
    "compare.page_forward": _at("long-compare", panes_at, "pageup"),
    "compare_side.leave": _at("compare-side", front),
    "compare_side.other_table": _at("compare-side", focus),
    "compare_side.kv_forward": _at("compare-side", lambda world: world.app.screen._choice.kv),
    "compare_side.path": _at("compare-side", front),
    "compare_export.leave": _at("compare-export", front),
    "compare_export.write": _at("compare-export", front),
}
