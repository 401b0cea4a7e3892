"""An app in a world where everything is known: its conversations, its models, its hub.

Owns that world and the way back to its beginning; ways to its screens belong to `places`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app_support import FakeLibrary, FakeSchemes, answered, ask, make_app, ready, wait_until
from fakes import FakeEngine, Script
from picker_support import FakeFits
from textual.pilot import Pilot
from textual.screen import Screen
from transfer_support import FakeTransfers

from quantchat import paths
from quantchat.tui.app import QuantchatApp
from quantchat.tui.screens.chat import ChatScreen
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
    transfers: FakeTransfers
    fits: FakeFits
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
    transfers, fits = FakeTransfers(library.there), FakeFits()
    app = make_app(
        folder,
        engine,
        library,
        FakeSchemes(),
        transfers=transfers,
        fits=fits,
        scheme="int8",
        seed=7,
        **settings,
    )
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
            transfers=transfers,
            fits=fits,
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
    world.transfers.hold, world.transfers.lines = False, []
    world.library.search_error = None
    world.library.there = {"starter": True, "other": False}
    world.transfers.there = world.library.there
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
