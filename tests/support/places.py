"""Ways to every screen of the app, in a world where everything is known: for pictures and keys.

Owns that world and the table of places. What is looked at there belongs to the tests.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app_support import FakeLibrary, FakeSchemes, answered, ask, make_app, ready, wait_until
from fakes import FakeEngine, Script
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import DataTable, Input

from quantchat import paths
from quantchat.events import Token
from quantchat.tui.app import QuantchatApp
from quantchat.tui.screens.chat import ChatScreen
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
from quantchat.tui.screens.models import ModelsScreen
from quantchat.tui.screens.options import OptionsScreen
from quantchat.tui.screens.schemes import SchemesScreen
from quantchat.tui.screens.settings import SettingsScreen
from quantchat.tui.screens.tags import TagsDialog
from quantchat.tui.screens.themes import ThemesScreen
from quantchat.tui.widgets.chat_list import ChatList
from quantchat.tui.widgets.dial import Dial

NOW_S = 1_795_000_000.0
"""When the world stands still: 2026-11-18, 10:26:40 UTC."""
ANSWER = """\
Light **scatters** off small molecules; blue scatters most.

1. Sunlight holds all colours.
2. The air bends `blue` further.

| colour | nm |
|---|---:|
| blue | 450 |
| red | 700 |

```python
def scattering(nm: float) -> float:
    return (450 / nm) ** 4  # Rayleigh
```
"""
SECOND = "At dusk its path through the air is longer: the blue is gone, red is left."
OTHER = "Because the blue has been scattered away by then."
LEFT = "The sky is blue because air scatters short waves."
RIGHT = "The sky looks blue because air bends short waves."


@dataclass(slots=True, kw_only=True)
class World:
    """An app that runs, and the doubles around it."""

    app: QuantchatApp
    pilot: Pilot[None]
    engine: FakeEngine
    library: FakeLibrary
    folder: Path
    chat_id: int
    """The conversation that is open at first."""
    known: frozenset[int]
    """The conversations that stay."""
    copied: list[str] = field(default_factory=list)
    """What went to the clipboard."""

    async def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        await self.pilot.press(*keys)

    async def until(self, reached: Callable[[], object]) -> None:
        """Let the app run until then."""
        await wait_until(self.pilot, reached)

    async def front(self, kind: type[Screen[object]]) -> None:
        """Until a screen of that kind is in front and laid out."""
        await self.until(lambda: isinstance(self.app.screen, kind) and self.app.screen.is_mounted)
        await self.until(lambda: self.app.screen.size.width)

    async def opened(self, key: str, kind: type[Screen[object]]) -> None:
        """Press a key that opens a screen."""
        await self.press(key)
        await self.front(kind)


@asynccontextmanager
async def world(folder: Path, size: tuple[int, int], **settings: object) -> AsyncIterator[World]:
    """The app with three conversations, the first of them open, and a log."""
    engine = FakeEngine([Script(ANSWER), Script(SECOND), Script(OTHER)], tokens_per_drain=200)
    library = FakeLibrary()
    app = make_app(folder, engine, library, FakeSchemes(), scheme="int8", seed=7, **settings)
    chat_id = _fill(app)
    paths.log_file().write_text("2026-11-18 10:20:00 INFO quantchat: everything is well\n")
    async with app.run_test(size=size) as pilot:
        made = World(
            app=app,
            pilot=pilot,
            engine=engine,
            library=library,
            folder=folder,
            chat_id=chat_id,
            known=frozenset(),
        )
        app.copy_text = lambda text, what: made.copied.append(text)  # type: ignore[method-assign]
        await ready(pilot, app)
        await made.until(lambda: app.conversation.chat is not None)
        await pilot.press("ctrl+n")
        for question, turns in (("Why is the sky blue?", 2), ("And red at dusk?", 4)):
            await ask(pilot, app, question)
            await answered(pilot, app, turns)
        await pilot.press("ctrl+r")
        await made.until(lambda: len(engine.chats) == 3)
        await answered(pilot, app, 4)
        app.writer.flush()
        assert app.conversation.chat is not None
        made.chat_id = app.conversation.chat.id
        made.known = frozenset(chat.id for chat in app.chats.list())
        stand_still(folder)
        app.conversation.open(made.chat_id)
        yield made


def _fill(app: QuantchatApp) -> int:
    """Conversations of the days before."""
    chats = app.chats
    ship = chats.create(model="starter", scheme="int4")
    asked = chats.add_turn(ship.id, None, "user", "Name three parts of a ship.")
    chats.add_turn(ship.id, asked.id, "assistant", "Hull, mast and rudder.", model="starter")
    chats.configure(ship.id, tags=("sea",))
    bread = chats.create(model="starter", scheme="fp16")
    chats.add_turn(bread.id, None, "user", "How long does bread rise?")
    chats.pin(bread.id, True)
    return ship.id


def stand_still(folder: Path) -> None:
    """Times in the store as if each conversation were a day older than the next."""
    with sqlite3.connect(folder / "conversations.db", timeout=10) as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM chats ORDER BY id DESC")]
        for age, chat_id in enumerate(ids):
            then_s = NOW_S - 600 - age * 86_400
            connection.execute(
                "UPDATE chats SET created_s = ?, updated_s = ? WHERE id = ?",
                (then_s, then_s, chat_id),
            )


async def home(world: World) -> None:
    """The chat with its conversation at the end, nothing chosen, nothing written."""
    app = world.app
    world.engine.hold_answers = False
    while not isinstance(app.screen, ChatScreen):
        await app.pop_screen()
    await world.until(lambda: app.comparison is None)
    app.conversation.stop()
    await world.until(lambda: app.conversation.answering is None and not app.loads.busy)
    app.writer.flush()
    screen = app.chat_screen
    screen.composing.give_up()
    if screen.query_one(Dial).display:
        await world.press("escape")
    screen.prompt.clear()
    screen.transcript.choose(None)
    there = {chat.id for chat in app.chats.list()}
    if world.known - there:
        app.chats.undelete()
    extra = there - world.known
    if extra:
        app.chats.delete(*extra)
    stand_still(world.folder)
    app.conversation.open(world.chat_id)
    screen.action_to_end()
    screen.prompt.focus()
    app.clear_notifications()
    await world.until(lambda: screen.prompt.has_focus and not app._notifications)


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


async def models(world: World) -> None:
    """The models on disk and to be fetched."""
    await world.opened("ctrl+o", ModelsScreen)
    await world.until(lambda: world.app.screen.query_one(DataTable).row_count == 2)


async def delete_model(world: World) -> None:
    """A question with two ways out."""
    await models(world)
    await world.opened("f8", Dialog)


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
    await _compared(world, "guided")
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
    "models": models,
    "delete-model": delete_model,
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
