"""Ways to every screen of the app, in a world where everything is known: for pictures and keys.

Owns the table of places; the world is `world`'s. What is looked at there belongs to the tests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app_support import ask
from compare_support import difference
from fakes import Script
from model_places import MODEL_PLACES
from textual.widgets import DataTable, Input
from world import World, home

from quantchat.events import Token
from quantchat.tui.screens.compare import CompareScreen
from quantchat.tui.screens.compare_export import CompareExport
from quantchat.tui.screens.compare_side import CompareSide
from quantchat.tui.screens.conversations import ConversationsScreen
from quantchat.tui.screens.dialog import Ask, Dialog
from quantchat.tui.screens.explain import ExplainScreen
from quantchat.tui.screens.export import ExportDialog
from quantchat.tui.screens.help import HelpScreen
from quantchat.tui.screens.importing import ImportDialog
from quantchat.tui.screens.latency import LatencyScreen
from quantchat.tui.screens.log import LogScreen
from quantchat.tui.screens.meters import MetersScreen
from quantchat.tui.screens.options import OptionsScreen
from quantchat.tui.screens.schemes import SchemesScreen
from quantchat.tui.screens.settings import SettingsScreen
from quantchat.tui.screens.tags import TagsDialog
from quantchat.tui.screens.themes import ThemesScreen
from quantchat.tui.widgets.chat_list import ChatList
from quantchat.tui.widgets.dial import Dial

LEFT = "The sky is blue because air scatters short waves."
RIGHT = "The sky looks blue because air bends short waves."


async def empty(world: World) -> None:
    """No conversation."""
    await world.press("ctrl+n")


async def streaming(world: World) -> None:
    """An answer that stands still halfway."""
    await empty(world)
    world.engine.hold_answers = True
    await ask(world.pilot, world.app, "Tell me of the sea.")
    await world.until(lambda: world.app.conversation.answering is not None)
    answering = world.app.conversation.answering
    assert answering is not None
    world.engine.push(
        Token(
            request_id=answering.request_id,
            slot="main",
            index=at,
            token_id=at,
            text=text,
            time_s=0.0,
        )
        for at, text in enumerate(("Waves", " break", " on", " the", " shore"))
    )
    await world.until(lambda: answering.text.endswith("shore"))


async def chosen(world: World) -> None:
    """A message is chosen."""
    await world.press("ctrl+up")
    await world.until(lambda: world.app.chat_screen.transcript.stack.chosen is not None)


async def editing(world: World) -> None:
    """A message is in the prompt to be changed."""
    await world.press("ctrl+up", "ctrl+up", "e")
    await world.until(lambda: world.app.chat_screen.composing.editing is not None)


async def completing(world: World) -> None:
    """A slash command is half typed."""
    await world.press("slash", "s")
    await world.until(lambda: world.app.chat_screen.completion.display)


async def dial(world: World) -> None:
    """The dial over the schemes."""
    await world.press("alt+down")
    found = world.app.chat_screen.query_one(Dial)
    await world.until(lambda: found.chosen is not None)


async def meters(world: World) -> None:
    """A meter is chosen, beside the conversation or in a window of their own."""
    await world.press("f7", "down")


async def palette(world: World) -> None:
    """The command palette, something typed."""
    await world.press("ctrl+p")
    await world.until(lambda: world.app.screen.query("CommandPalette, #--input, CommandInput"))
    await world.press(*"quit")
    await world.until(lambda: world.app.screen.query("CommandList").first().display)


async def conversations(world: World) -> None:
    """All conversations."""
    await world.opened("ctrl+l", ConversationsScreen)
    rows = world.app.screen.query_one(ChatList)
    await world.until(lambda: len(rows.found) == 3)


async def found(world: World) -> None:
    """Conversations that hold a word."""
    await conversations(world)
    await world.press(*"mast")
    rows = world.app.screen.query_one(ChatList)
    await world.until(lambda: len(rows.found) == 1)


async def rename(world: World) -> None:
    """Another title is asked for."""
    await conversations(world)
    await world.opened("f2", Ask)


async def tags(world: World) -> None:
    """Tags of a conversation."""
    await conversations(world)
    await world.opened("f6", TagsDialog)


async def export(world: World) -> None:
    """A conversation is to be exported."""
    await conversations(world)
    await world.opened("f7", ExportDialog)


async def importing(world: World) -> None:
    """A file is to be imported."""
    await conversations(world)
    await world.opened("f3", ImportDialog)
    await world.until(lambda: world.app.screen.query_one("#choices").option_count)


async def options(world: World) -> None:
    """What is this conversation's own."""
    await world.opened("f8", OptionsScreen)
    await world.until(lambda: not world.app.screen._filling)


async def schemes(world: World) -> None:
    """The table of schemes."""
    await world.opened("f5", SchemesScreen)
    await world.until(lambda: world.app.screen.query_one(DataTable).row_count == 7)


async def settings(world: World) -> None:
    """All settings."""
    await world.opened("ctrl+s", SettingsScreen)
    await world.until(lambda: world.app.screen.focused is not None)


async def settings_found(world: World) -> None:
    """Settings that hold a word."""
    await settings(world)
    await world.press("ctrl+f")
    await world.until(lambda: isinstance(world.app.screen.focused, Input))
    await world.press(*"temp")


async def themes(world: World) -> None:
    """The picker of themes."""
    world.app.action_themes()
    await world.front(ThemesScreen)


async def latency(world: World) -> None:
    """Plots of the conversation."""
    await world.opened("f6", LatencyScreen)


async def answer_meters(world: World) -> None:
    """All meters of an answer."""
    await latency(world)
    await world.opened("enter", MetersScreen)
    await world.press("down")


async def explain(world: World) -> None:
    """What a meter measures."""
    await answer_meters(world)
    await world.opened("enter", ExplainScreen)


async def help_(world: World) -> None:
    """Every key."""
    await world.opened("f1", HelpScreen)


async def log(world: World) -> None:
    """The end of the log."""
    world.app.action_log()
    await world.front(LogScreen)
    await world.until(lambda: world.app.screen.query_one("#log").text)


async def trouble(world: World) -> None:
    """A failure of the engine, with ways out."""
    world.engine.load_failures["int4"] = ("not enough memory for int4", "choose a shorter context")
    world.app.set_value("scheme", "int4")
    await world.front(Dialog)
    world.engine.load_failures.clear()


async def compare(world: World) -> None:
    """Two panes that have answered."""
    await _compared(world, "free")


async def guided(world: World) -> None:
    """One wrote, the other scored; a token is chosen."""
    screen = await _compared(world, "guided")
    # Before all tokens are scored the line says how many are, and tokens have no colour yet.
    await world.until(lambda: "exact" in difference(screen) and not screen._stale)
    await world.press("alt+right", "alt+right")


async def blind(world: World) -> None:
    """A vote is due."""
    screen = await _compared(world, "blind")
    await world.until(lambda: screen.comparison.shown and screen.comparison.shown.voting)


async def compare_side(world: World) -> None:
    """Model, scheme and KV precision of a side."""
    await compare(world)
    await world.opened("f6", CompareSide)
    table = world.app.screen.query_one("#table", DataTable)
    await world.until(lambda: table.row_count > 2)


async def compare_export(world: World) -> None:
    """A comparison is to be exported."""
    await compare(world)
    await world.opened("f8", CompareExport)


async def _compared(world: World, mode: str) -> CompareScreen:
    world.app.preferences.change(compare_mode=mode)
    await world.opened("ctrl+t", CompareScreen)
    screen = world.app.screen
    assert isinstance(screen, CompareScreen)
    await world.until(lambda: screen.comparison.ready)
    del world.engine.scripts[:]
    world.engine.scripts += [Script(LEFT), Script(RIGHT)]
    world.engine.chats.clear()
    await ask(world.pilot, world.app, "Why is the sky blue?")
    found = screen.comparison
    await world.until(lambda: world.engine.chats)
    await world.until(
        lambda: not (found.answering or found.waiting or found.scoring) and not screen._stale
    )
    return screen


PLACES: dict[str, Callable[[World], Awaitable[object]]] = {
    "chat": home,
    "empty": empty,
    "streaming": streaming,
    "chosen": chosen,
    "editing": editing,
    "completing": completing,
    "dial": dial,
    "meters": meters,
    "palette": palette,
    "conversations": conversations,
    "found": found,
    "rename": rename,
    "tags": tags,
    "export": export,
    "import": importing,
    "options": options,
    **MODEL_PLACES,
    "schemes": schemes,
    "settings": settings,
    "settings-found": settings_found,
    "themes": themes,
    "latency": latency,
    "answer-meters": answer_meters,
    "explain": explain,
    "help": help_,
    "log": log,
    "trouble": trouble,
    "compare": compare,
    "guided": guided,
    "blind": blind,
    "compare-side": compare_side,
    "compare-export": compare_export,
}
"""Name of a picture -> how to get there from the chat."""


async def go(world: World, name: str) -> None:
    """To a place, from wherever the app is."""
    await home(world)
    await PLACES[name](world)
