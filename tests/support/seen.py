"""What can be seen of an app: each looks at one thing that a key may change."""

from __future__ import annotations

from model_places import picker, variants
from textual.screen import Screen
from textual.widgets import DataTable, Input, Static, TextArea
from world import World

from quantchat.tui.widgets.chat_list import ChatList
from quantchat.tui.widgets.dial import Dial
from quantchat.tui.widgets.meters import MeterPanel


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
