"""An app in a process of its own: `downloading_app.py MODEL` waits until its model came and is loaded.

Works in QUANTCHAT_HOME against HF_ENDPOINT. A missing model is asked for by Enter, unless it is on
its way already. Prints "half" once bytes of every file are there, and at last what it said, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from app_support import FakeSchemes, wait_until
from fakes import FakeEngine

from quantchat import paths
from quantchat.settings.model import Settings
from quantchat.store.chats import Chats
from quantchat.store.db import open_database
from quantchat.tui.app import QuantchatApp
from quantchat.tui.control.hub_library import HubLibrary
from quantchat.tui.control.hub_transfers import HubTransfers


def say(text: str) -> None:
    sys.__stdout__.write(f"{text}\n")
    sys.__stdout__.flush()


async def fetch(model: str, half_bytes: int) -> None:
    """Open the app and stay until the model answers."""
    database = open_database(paths.database_file())
    app = QuantchatApp(
        FakeEngine([]),
        Settings(animations=False, model=model),
        Chats(database),
        HubLibrary(),
        schemes=FakeSchemes(),
        transfers=HubTransfers(),
        settings_path=paths.settings_file(),
    )
    said: list[str] = []
    notify = app.notify

    def note(message: str, **how: object) -> None:
        said.append(message)
        notify(message, **how)  # type: ignore[arg-type]

    app.notify = note  # type: ignore[method-assign]
    async with app.run_test(size=(100, 30)) as pilot:
        await wait_until(pilot, lambda: app.loads.state in ("missing", "fetching", "ready"))
        if app.loads.state == "missing" and not app.transfers.rows():
            await pilot.press("enter")
        if half_bytes:
            await wait_until(
                pilot, lambda: sum(row.done_bytes for row in app.transfers.rows()) >= half_bytes
            )
            say("half")
        await wait_until(pilot, lambda: app.loads.ready)
    database.close()
    say(json.dumps(said))


if __name__ == "__main__":
    os.environ["TEXTUAL_ANIMATIONS"] = "none"
    asyncio.run(fetch(sys.argv[1], int(sys.argv[2])))
