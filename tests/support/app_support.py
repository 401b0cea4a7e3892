"""An app with a scripted engine, a library without a network, and a wait instead of sleeps."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fakes import FakeEngine, Script
from textual.pilot import Pilot

from quantchat.errors import Cancelled, DownloadError
from quantchat.hub.progress import FetchProgress
from quantchat.settings.model import Settings
from quantchat.store.chats import Chats
from quantchat.store.db import open_database
from quantchat.tui.app import QuantchatApp
from quantchat.tui.control.library import ModelRow
from quantchat.tui.widgets.prompt import Prompt

SIZE_BYTES = 98_362_432


class FakeLibrary:
    """Implements `Library`: the starter, and one model that must be fetched."""

    def __init__(self, *, on_disk: bool = True) -> None:
        self.there = {"starter": on_disk, "other": False}
        self.error: DownloadError | None = None
        self.hold = threading.Event()
        self.hold.set()
        """Cleared, a fetch stands still."""

    def rows(self) -> list[ModelRow]:
        """Both models."""
        rows = [
            ModelRow(
                name=name,
                title=name.title(),
                size_bytes=SIZE_BYTES,
                on_disk=there,
                removable=there,
                parameters=134_515_008,
                license="Apache-2.0",
                note="for tests",
            )
            for name, there in self.there.items()
        ]
        return sorted(rows, key=lambda row: not row.on_disk)

    def find(self, name: str) -> ModelRow | None:
        """By name."""
        return next((row for row in self.rows() if row.name == name), None)

    def fetch(
        self, name: str, on_progress: Callable[[FetchProgress], None], cancel: threading.Event
    ) -> None:
        """Half, then the rest unless it is held or cancelled."""
        on_progress(
            FetchProgress(
                done_bytes=SIZE_BYTES // 2,
                total_bytes=SIZE_BYTES,
                bytes_per_s=4e6,
                remaining_s=12.0,
                source="a test",
                detail="",
                stalled=False,
            )
        )
        while not self.hold.wait(0.005):
            if cancel.is_set():
                raise Cancelled("stopped")
        if self.error is not None:
            raise self.error
        self.there[name] = True

    def remove(self, name: str) -> int:
        """Forget it."""
        self.there[name] = False
        return SIZE_BYTES


def make_app(
    folder: Path,
    engine: FakeEngine | None = None,
    library: FakeLibrary | None = None,
    **settings: Any,
) -> QuantchatApp:
    """An app whose database and settings lie in `folder`; the same folder is the same user."""
    return QuantchatApp(
        engine or FakeEngine([Script("The sky is blue.")]),
        Settings(animations=False, **settings),
        Chats(open_database(folder / "conversations.db")),
        library or FakeLibrary(),
        settings_path=folder / "settings.toml",
        new_engine=FakeEngine,
    )


def fake(app: QuantchatApp) -> FakeEngine:
    """The app's scripted engine."""
    assert isinstance(app.engine, FakeEngine)
    return app.engine


async def wait_until(
    pilot: Pilot[None], condition: Callable[[], object], timeout_s: float = 20.0
) -> None:
    """Let the app run until the condition holds.

    `Pilot.pause` is not used: it waits until the process is idle, which a busy machine never is.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the app did not get there in time"
        await asyncio.sleep(0.01)


async def ready(pilot: Pilot[None], app: QuantchatApp) -> None:
    """Until the model answers."""
    await wait_until(pilot, lambda: app.loads.ready)


async def ask(pilot: Pilot[None], app: QuantchatApp, text: str) -> None:
    """Type and send, once a screen with a prompt is in front."""
    await wait_until(pilot, lambda: app.screen.query(Prompt))
    prompt = app.screen.query_one(Prompt)
    prompt.focus()
    await wait_until(pilot, lambda: prompt.has_focus)
    prompt.text = text
    await pilot.press("enter")


async def answered(pilot: Pilot[None], app: QuantchatApp, turns: int) -> None:
    """Until the path has that many turns and nothing streams."""
    await wait_until(
        pilot,
        lambda: (
            len(app.conversation.path) == turns
            and app.conversation.answering is None
            and not app.conversation.waiting
        ),
    )


def shown(app: QuantchatApp) -> str:
    """The conversation as it is drawn."""
    return app.chat_screen.transcript.text_on_screen()
