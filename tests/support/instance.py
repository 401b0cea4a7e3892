"""An app in a process of its own: `instance.py NAME OTHER EXCHANGES` chats beside another one.

Works in QUANTCHAT_HOME. Its first answer streams until the other one's does, too; the last line of
stdout is JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from app_support import FakeLibrary, FakeSchemes, answered, ask, ready, wait_until
from fakes import FakeEngine, Script

from quantchat import paths
from quantchat.settings.file import load_settings
from quantchat.store.chats import Chats
from quantchat.store.db import open_database
from quantchat.tui import bridge
from quantchat.tui.app import QuantchatApp

WAIT_S = 60.0


def answer(name: str, number: int) -> str:
    """What this instance's engine says to its question of that number."""
    words = " ".join(f"{name}{number}-{at}" for at in range(60))
    return f"Answer {number} of {name}: {words}\n\n- a list\n- in it"


def question(name: str, number: int) -> str:
    """What its user asks."""
    return f"{name} asks {number}?"


def ready_file(name: str) -> Path:
    """There as soon as this instance's first answer streams."""
    return paths.data_dir() / f"{name}.ready"


async def chat(name: str, other: str, exchanges: int) -> dict[str, object]:
    """Open the app, chat, change settings, close it."""
    engine = FakeEngine([Script(answer(name, number)) for number in range(exchanges)])
    settings, warnings = load_settings(paths.settings_file())
    database = open_database(paths.database_file())
    app = QuantchatApp(
        engine,
        settings,
        Chats(database),
        FakeLibrary(),
        schemes=FakeSchemes(),
        settings_path=paths.settings_file(),
        new_engine=FakeEngine,
        warnings=[*warnings, *database.warnings],
    )
    said: list[str] = []
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await pilot.press("ctrl+n")
        engine.hold_answers = True
        await ask(pilot, app, question(name, 0))
        await wait_until(pilot, lambda: app.conversation.answering is not None)
        ready_file(name).touch()
        until_s = time.monotonic() + WAIT_S
        while not ready_file(other).exists():
            assert time.monotonic() < until_s, f"{other} did not come"
            await asyncio.sleep(0.01)
        engine.hold_answers = False
        for number in range(exchanges):
            if number:
                await ask(pilot, app, question(name, number))
            await answered(pilot, app, 2 * number + 2)
            app.set_value("temperature", 0.1 + 0.01 * number)
        assert app.conversation.chat is not None
        chat_id = app.conversation.chat.id
        app.chats.rename(chat_id, f"{name}'s own")
        said = [each.message for each in app._notifications]
    database.close()
    return {"chat": chat_id, "said": said}


def main() -> None:
    """Chat as the arguments say."""
    name, other, exchanges = sys.argv[1:]
    bridge.SHORTEST_S = bridge.SHORTEST_ON_CPU_S = 0.01
    sys.stdout.write(json.dumps(asyncio.run(chat(name, other, int(exchanges)))) + "\n")


if __name__ == "__main__":
    main()
