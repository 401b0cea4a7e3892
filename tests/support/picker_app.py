"""The model picker of a running app, for tests: opened, asked, read."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app_support import FakeLibrary, make_app, ready, wait_until
from picker_support import FakeFits, offer, repo
from textual.events import Paste
from textual.pilot import Pilot
from transfer_support import FakeTransfers

from quantchat.errors import Cancelled
from quantchat.hub.search import FoundRepo, Sort
from quantchat.tui.app import QuantchatApp
from quantchat.tui.screens.models import ModelsScreen
from quantchat.tui.screens.repo import RepoScreen
from quantchat.tui.widgets.picker_list import PickerList

QWEN = "Qwen/Qwen2.5-7B"
FILE = f"{QWEN}:model.Q8_0.gguf"


class Library(FakeLibrary):
    """Notes what is asked; a search can be held."""

    def __init__(self) -> None:
        super().__init__()
        self.found = [repo(QWEN, downloads=9), repo("b/qwen-small", downloads=5, likes=99)]
        self.offers = {QWEN: offer(QWEN)}
        self.asked: list[tuple[str, Sort]] = []
        self.cancelled: list[str] = []
        self.hold = threading.Event()
        self.hold.set()

    def search(self, query: str, sort: Sort, cancel: threading.Event) -> list[FoundRepo]:
        self.asked.append((query, sort))
        while not self.hold.wait(0.005):
            if cancel.is_set():
                self.cancelled.append(query)
                raise Cancelled("another question")
        return super().search(query, sort, cancel)


class Opened:
    """The picker of a running app."""

    def __init__(self, app: QuantchatApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def picker(self) -> ModelsScreen:
        return next(each for each in self.app.screen_stack if isinstance(each, ModelsScreen))

    @property
    def repo(self) -> RepoScreen:
        assert isinstance(self.app.screen, RepoScreen)
        return self.app.screen

    @property
    def text(self) -> str:
        found = self.app.screen.query(PickerList)
        return found.first().text_on_screen() if found and found.first().is_mounted else ""

    @property
    def chosen(self) -> str:
        """Name of what is under the cursor; "" for nothing."""
        found = self.app.screen.query(PickerList)
        entry = found.first().current if found else None
        return "" if entry is None else entry.name

    @property
    def about(self) -> str:
        return str(self.app.screen.query_one("#about").render())

    @property
    def notes(self) -> str:
        return "\n".join(each.message for each in self.app._notifications)

    async def until(self, reached: object) -> None:
        assert callable(reached)
        await wait_until(self.pilot, reached)

    async def type(self, text: str) -> None:
        """And until the hub answered."""
        self.picker.type(text)
        await self.until(lambda: self.picker.search.query == text)
        await self.until(lambda: self.picker.search.state == "found")

    async def paste(self, text: str) -> None:
        self.picker.query_one("#filter").post_message(Paste(text))

    async def variants(self, name: str = QWEN) -> RepoScreen:
        self.app.push_screen(RepoScreen(name), None)
        await self.until(lambda: isinstance(self.app.screen, RepoScreen))
        await self.until(lambda: self.app.screen.query(PickerList))
        await self.until(lambda: self.repo.rows.count)
        return self.repo


@asynccontextmanager
async def opened(
    folder: Path,
    library: FakeLibrary | None = None,
    fit_book: FakeFits | None = None,
    transfers: FakeTransfers | None = None,
    size: tuple[int, int] = (100, 32),
) -> AsyncIterator[Opened]:
    library = library or Library()
    app = make_app(folder, library=library, fits=fit_book, transfers=transfers)
    async with app.run_test(size=size) as pilot:
        await ready(pilot, app)
        await pilot.press("ctrl+o")
        made = Opened(app, pilot)
        await wait_until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await wait_until(pilot, lambda: made.picker.rows.count)
        yield made
