"""An app with a scripted engine, a library without a network, and a wait instead of sleeps."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fakes import FakeEngine, Script
from picker_support import FakeFits
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Button, Static
from transfer_support import SIZE_BYTES, FakeTransfers

from quantchat.errors import QuantchatError
from quantchat.hub.http import SourceError
from quantchat.hub.search import FoundRepo, Sort
from quantchat.hub.variants import Offer
from quantchat.requests import LoadRequest
from quantchat.settings.model import Settings
from quantchat.store.chats import Chats
from quantchat.store.db import open_database
from quantchat.store.quality import Quality
from quantchat.tui.app import QuantchatApp
from quantchat.tui.control.fits import FitBook
from quantchat.tui.control.library import ModelRow, ShelfPick
from quantchat.tui.control.schemes import Held, SchemeRow
from quantchat.tui.control.transfers import Transfers
from quantchat.tui.screens.dialog import Dialog
from quantchat.tui.widgets.prompt import Prompt


class FakeLibrary:
    """Implements `Library`: the starter, and one model that must be fetched."""

    def __init__(self, *, on_disk: bool = True) -> None:
        self.there = {"starter": on_disk, "other": False}
        self.found: list[FoundRepo] = []
        self.search_error: SourceError | None = None
        self.offers: dict[str, Offer] = {}
        self.picks: list[ShelfPick] = []

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

    def shelf(self) -> list[ShelfPick]:
        """Those of `picks`."""
        return self.picks

    def remove(self, name: str) -> int:
        """Forget it."""
        self.there[name] = False
        return SIZE_BYTES

    def search(self, query: str, sort: Sort, cancel: threading.Event) -> list[FoundRepo]:
        """Those of `found` that have the words."""
        if self.search_error is not None:
            raise self.search_error
        words = query.lower().split()
        return [row for row in self.found if all(word in row.repo.lower() for word in words)]

    def offer(self, repo: str, cancel: threading.Event) -> Offer:
        """One of `offers`."""
        if repo not in self.offers:
            raise SourceError(f"there is no {repo} on the hub", hint="check the name")
        return self.offers[repo]


class FakeSchemes:
    """Implements `SchemeBook`: some that can be, one that cannot, in another size for each KV."""

    def __init__(self) -> None:
        self.asked: list[LoadRequest] = []
        self.error: QuantchatError | None = None
        self.hold = threading.Event()
        self.hold.set()
        """Cleared, planning stands still."""

    def rows(
        self, request: LoadRequest, held: Held | None, *, may_measure: bool
    ) -> list[SchemeRow]:
        """As a small model on a processor would have them."""
        self.asked.append(request)
        self.hold.wait()
        if self.error is not None:
            raise self.error
        kv = "16bit" if request.kv == "auto" else request.kv
        sizes = {"fp16": 256, "int8": 129, "int4": 84, "awq": 84, "squeezellm": 86}
        rows = [
            SchemeRow(
                name=name,
                summary=f"{name} in a sentence.",
                weight_bytes=size << 20,
                kv=kv,
                kv_bytes=(180 if kv == "16bit" else 95) << 20,
                context_tokens=8192,
                tok_per_s=10000 / size,
                speed_tokens=1024,
                quality=quality(name) if name == "int8" else None,
                calibrates=name in ("awq", "squeezellm"),
                packed=name == "squeezellm",
                held="held in 16 bits" if name == "squeezellm" else "",
            )
            for name, size in sizes.items()
        ]
        auto = dataclasses.replace(rows[1], name="auto", summary="The widest.", takes="int8")
        no = SchemeRow(
            name="fp8", summary="8-bit floats.", refusal="fp8 needs SM 80", hint="choose int8"
        )
        return [auto, *rows, no]


def quality(scheme: str) -> Quality:
    """A measurement of the starter model."""
    return Quality(
        identity="a",
        model="starter",
        scheme=scheme,
        group_size=0,
        kv="16bit",
        device="cpu",
        calibration="",
        reference="fp32",
        method="academic",
        text="wiki",
        text_hash="b",
        tokens=6141,
        bits_per_weight=8.05,
        weight_bytes=129 << 20,
        kl_mean=0.00123,
        kl_mean_se=0.00004,
        same_top=0.971,
        same_top_se=0.002,
        ppl_ratio=1.001,
        measured="2026-01-02T03:04:05Z",
        version="0.1",
    )


def make_app(
    folder: Path,
    engine: FakeEngine | None = None,
    library: FakeLibrary | None = None,
    schemes: FakeSchemes | None = None,
    transfers: Transfers | None = None,
    fits: FitBook | None = None,
    **settings: Any,
) -> QuantchatApp:
    """An app whose database and settings lie in `folder`; the same folder is the same user."""
    library = library or FakeLibrary()
    return QuantchatApp(
        engine or FakeEngine([Script("The sky is blue.")]),
        Settings(animations=False, **settings),
        Chats(open_database(folder / "conversations.db")),
        library,
        schemes=schemes or FakeSchemes(),
        transfers=transfers or FakeTransfers(library.there),
        fits=fits or FakeFits(),
        settings_path=folder / "settings.toml",
        new_engine=FakeEngine,
    )


def fake(app: QuantchatApp) -> FakeEngine:
    """The app's scripted engine."""
    assert isinstance(app.engine, FakeEngine)
    return app.engine


def notes(app: QuantchatApp) -> str:
    """All that toasts say."""
    return "\n".join(f"{each.title}\n{each.message}" for each in app._notifications)


def dialog_text(app: QuantchatApp) -> str:
    """What the dialog in front says; nothing while there is none."""
    if not isinstance(app.screen, Dialog) or not app.screen.query(Button):
        return ""
    return "\n".join(str(each.content) for each in app.screen.query(Static))


async def wait_until(
    pilot: Pilot[None], condition: Callable[[], object], timeout_s: float = 60.0
) -> None:
    """Let the app run until the condition holds.

    `Pilot.pause` is not used: it waits until the process is idle, which a busy machine never is.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the app did not get there in time"
        await asyncio.sleep(0.01)


STILL_TURNS = 3
TURNS = 60


async def drawn(app: App[Any]) -> None:
    """Until the app has done what it was told and drawn it; not for ever: some never stand still."""
    still = 0
    for _ in range(TURNS):
        await asyncio.sleep(0.005)
        still = still + 1 if _stands_still(app) else 0
        if still == STILL_TURNS:
            return


def _stands_still(app: App[Any]) -> bool:
    if not app.screen_stack:
        return True
    screen = app.screen
    waits = screen._layout_required or screen._repaint_required
    if waits or screen._dirty_widgets or screen._callbacks:
        return False
    nodes = (app, *screen.walk_children(with_self=True))
    return not any(node.message_queue_size or node._next_callbacks for node in nodes)


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
