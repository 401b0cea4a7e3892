"""The app beside a loopback hub, for tests: opened, and what it has said and fetched."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from app_support import FakeSchemes
from fake_servers import FakeServer
from fakes import FakeEngine, Script
from textual.pilot import Pilot

from quantchat import paths
from quantchat.hub.part import Part
from quantchat.settings.model import Settings
from quantchat.store.chats import Chats
from quantchat.store.db import open_database
from quantchat.tui.app import QuantchatApp
from quantchat.tui.control.hub_library import HubLibrary
from quantchat.tui.control.hub_transfers import HubTransfers
from quantchat.tui.control.transfers import Transfer

HELD_BYTES = 100_000
NOTES: list[str] = []
"""What the app that was opened last has said; it forgets notes by itself."""


@asynccontextmanager
async def opened(model: str) -> AsyncIterator[tuple[Pilot[None], QuantchatApp]]:
    """The app as it is started, with a scripted engine."""
    database = open_database(paths.database_file())
    app = QuantchatApp(
        FakeEngine([Script("The sky is blue.")]),
        Settings(animations=False, model=model),
        Chats(database),
        HubLibrary(),
        schemes=FakeSchemes(),
        transfers=HubTransfers(),
        settings_path=paths.settings_file(),
        new_engine=FakeEngine,
    )
    notify = app.notify

    def note(message: str, *, title: str = "", **how: Any) -> None:
        NOTES.append(f"{title}: {message}")
        notify(message, title=title, **how)

    NOTES.clear()
    app.notify = note  # type: ignore[method-assign]
    async with app.run_test(size=(120, 40)) as pilot:
        yield pilot, app
    database.close()


def said(*words: str) -> bool:
    """Whether one note has all these words."""
    return any(all(word in note for word in words) for note in NOTES)


def line(app: QuantchatApp, name: str) -> Transfer | None:
    return next((each for each in app.transfers.rows() if each.name == name), None)


def phase(app: QuantchatApp, name: str) -> str:
    found = line(app, name)
    return "" if found is None else found.phase


def half_there(app: QuantchatApp, name: str) -> Callable[[], bool]:
    def there() -> bool:
        found = line(app, name)
        return found is not None and found.done_bytes >= HELD_BYTES

    return there


def no_room(part: Part, chunk: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def ranges(hub: FakeServer) -> list[str | None]:
    return [headers.get("range") for path, headers in hub.requests if "/resolve/" in path]


def loaded(app: QuantchatApp) -> str:
    return app.loads.info.model if app.loads.info is not None else ""
