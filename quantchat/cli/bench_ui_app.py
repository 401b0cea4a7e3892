"""The real app under measure: drawn at 120x40 into nowhere, with an engine that is watched.

Owns how an app is opened upon a past and asked, and what its event loop does meanwhile. Textual's
headless driver skips drawing, so ours counts bytes instead.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, MutableSequence, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from quantchat.bench.stats import percentile
from quantchat.cli.frames import set_rate
from quantchat.engine.api import Engine
from quantchat.errors import EngineError
from quantchat.events import Done, EngineStopped, Event, Failed, Loaded, LoadFailed
from quantchat.requests import ChatRequest, LoadRequest, Role, ScoreRequest, Slot

if TYPE_CHECKING:
    from textual.driver import Driver

    from quantchat.hub.search import FoundRepo, Sort
    from quantchat.hub.variants import Offer
    from quantchat.settings.model import Settings
    from quantchat.store.chats import Chats
    from quantchat.tui.app import QuantchatApp
    from quantchat.tui.control.library import Library, ModelRow, ShelfPick
    from quantchat.tui.screens.compare import CompareScreen

SIZE = (120, 40)
HEARTBEAT_S = 0.005
POLL_S = 0.05
LOAD_TIMEOUT_S = 180.0
SETTLE_S = 0.5
QUESTION = "Tell me a long story about a lighthouse keeper, his dog and a ship in the fog."

View: TypeAlias = Literal["chat", "tokens", "markdown"]
"""One stream in the chat; two side by side, as tokens or as Markdown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """How the event loop fared while answers streamed."""

    lag_p50_ms: float
    """How late a task that asked to be woken was woken."""
    lag_p99_ms: float
    lag_max_ms: float
    flush_p99_ms: float
    """CPU time of taking in and drawing what the engine said."""
    flushes: int
    drawn_bytes: int
    """What a terminal would have got."""
    cpu_share: float
    """CPU time of the process over the time the answers took; 1 is a whole core."""
    answer_s: float


class Recorder:
    """An engine that outlives its app and remembers the latest requests and their ends."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.requests: list[ChatRequest] = []
        self.done: list[Done] = []
        self.problem = ""
        self._loads: dict[Slot, LoadRequest] = {}
        self._loaded: set[Slot] = set()

    def forget(self) -> None:
        """Begin anew to remember."""
        self.requests, self.done = [], []

    def load(self, request: LoadRequest) -> int:
        """See Engine.load."""
        self._loads[request.slot] = request
        self._loaded.discard(request.slot)
        return self._engine.load(request)

    def cancel_load(self, slot: Slot) -> None:
        """See Engine.cancel_load."""
        self._engine.cancel_load(slot)

    def unload(self, slot: Slot) -> None:
        """See Engine.unload."""
        self._loaded.discard(slot)
        self._engine.unload(slot)

    def chat(self, request: ChatRequest) -> int:
        """See Engine.chat."""
        self.requests.append(request)
        return self._engine.chat(request)

    def score(self, request: ScoreRequest) -> int:
        """See Engine.score."""
        return self._engine.score(request)

    def cancel(self, request_id: int) -> None:
        """See Engine.cancel."""
        self._engine.cancel(request_id)

    def drain(self) -> list[Event]:
        """See Engine.drain."""
        return self._note(self._engine.drain())

    def wait(self, timeout_s: float) -> list[Event]:
        """See Engine.wait."""
        return self._note(self._engine.wait(timeout_s))

    def close(self) -> None:
        """The app closes its engine; this one is needed again."""

    def load_again(self, slots: Sequence[Slot]) -> None:
        """Load into these slots what was there last, unless it still is; waits."""
        for slot in slots:
            if slot not in self._loaded:
                self.load(self._loads[slot])
        while not self._loaded.issuperset(slots):
            self.wait(POLL_S)
            self.check()

    def check(self) -> None:
        """Raise EngineError where the engine could not go on."""
        if self.problem:
            raise EngineError(self.problem)

    def _note(self, events: list[Event]) -> list[Event]:
        for event in events:
            if isinstance(event, Done):
                self.done.append(event)
            elif isinstance(event, Loaded):
                self._loaded.add(event.slot)
            elif isinstance(event, Failed | LoadFailed | EngineStopped):
                self.problem = event.message or "the engine stopped"
        return events


class Shelf:
    """A library on which every model is there already, for engines that follow a script."""

    def rows(self) -> list[ModelRow]:
        """Nothing to choose from."""
        return []

    def find(self, name: str) -> ModelRow | None:
        """Whatever is asked for."""
        from quantchat.tui.control.library import ModelRow

        return ModelRow(name=name, title=name, size_bytes=0, on_disk=True)

    def shelf(self) -> list[ShelfPick]:
        """Nothing to recommend."""
        return []

    def remove(self, name: str) -> int:
        """Nothing is deleted."""
        raise EngineError(f"{name} is not deleted in a benchmark")

    def search(self, query: str, sort: Sort, cancel: object) -> list[FoundRepo]:
        """The hub is left alone."""
        return []

    def offer(self, repo: str, cancel: object) -> Offer:
        """The hub is left alone."""
        raise EngineError(f"{repo} is not looked up in a benchmark")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An app that runs and whose model answers."""

    app: QuantchatApp
    recorder: Recorder
    drawn_bytes: Callable[[], int]
    after_drawing: list[Callable[[], None]]
    """Called when a terminal would have got something."""

    async def until(
        self, reached: Callable[[], bool], timeout_s: float = float("inf"), poll_s: float = POLL_S
    ) -> None:
        """Let the app run; raises EngineError when it cannot get there."""
        until_s = time.perf_counter() + timeout_s
        while not reached():
            self.recorder.check()
            if time.perf_counter() > until_s:
                raise EngineError("the app was not ready in time")
            await asyncio.sleep(poll_s)


def run_app(
    recorder: Recorder,
    settings: Settings,
    library: Library,
    work: Callable[[Opened], Awaitable[None]],
    *,
    past: Sequence[str] = (),
    size: tuple[int, int] = SIZE,
) -> None:
    """Open the app upon a conversation of these messages, do `work` in it, close it."""
    # Textual reads these when it is imported.
    os.environ.setdefault("COLORTERM", "truecolor")
    os.environ.setdefault("TERM", "xterm-256color")
    set_rate()
    from quantchat.store.chats import Chats
    from quantchat.store.db import open_database
    from quantchat.tui.app import QuantchatApp
    from quantchat.tui.control.heap import set_apart

    thresholds = gc.get_threshold()
    with tempfile.TemporaryDirectory(prefix="quantchat-bench-") as folder:
        database = open_database(Path(folder) / "conversations.db")
        try:
            chats = Chats(database)
            _fill(chats, past)
            app = QuantchatApp(recorder, settings, chats, library, stays=set_apart)
            asyncio.run(_work(app, recorder, work, size))
        finally:
            gc.unfreeze()
            gc.set_threshold(*thresholds)
            database.close()


def measured(
    recorder: Recorder,
    settings: Settings,
    library: Library,
    *,
    view: View,
    past: Sequence[str] = (),
    prepare: Callable[[Opened], Awaitable[None]] | None = None,
) -> Screen:
    """One question, answered in the chat or in both panes, after what `prepare` does there."""
    result: list[Screen] = []

    async def work(opened: Opened) -> None:
        if view != "chat":
            await _open_panes(opened)
        if prepare is not None:
            await prepare(opened)
        if view == "markdown":
            _panes(opened.app).action_view()
        opened.app.bridge.measure_anew()
        await asyncio.sleep(SETTLE_S)
        result.append(await _streamed(opened, view))

    run_app(recorder, settings, library, work, past=past)
    if not result:
        raise EngineError(recorder.problem or "the app ended before the answer was complete")
    return result[0]


def _fill(chats: Chats, past: Sequence[str]) -> None:
    """A conversation: questions and answers in turn."""
    if not past:
        return
    chat = chats.create(model="starter")
    parent: int | None = None
    for number, content in enumerate(past):
        role: Role = "user" if number % 2 == 0 else "assistant"
        parent = chats.add_turn(chat.id, parent, role, content).id


async def _work(
    app: QuantchatApp,
    recorder: Recorder,
    work: Callable[[Opened], Awaitable[None]],
    size: tuple[int, int],
) -> None:
    after: list[Callable[[], None]] = []
    opened = Opened(
        app=app, recorder=recorder, drawn_bytes=draw_nowhere(app, after), after_drawing=after
    )
    problem: list[Exception] = []

    async def drive(_: object) -> None:
        try:
            await opened.until(lambda: app.loads.ready, LOAD_TIMEOUT_S)
            await work(opened)
        except Exception as error:
            # Textual would show it inside the app; the command has to say it.
            problem.append(error)
        app.exit()

    await app.run_async(size=size, auto_pilot=drive)
    if problem:
        raise problem[0]


async def _open_panes(opened: Opened) -> None:
    app = opened.app
    app.action_compare()
    await opened.until(lambda: app.comparison is not None and app.comparison.ready, LOAD_TIMEOUT_S)


def _panes(app: QuantchatApp) -> CompareScreen:
    from quantchat.tui.screens.compare import CompareScreen

    screen = app.screen
    assert isinstance(screen, CompareScreen)
    return screen


async def asked(opened: Opened, view: View) -> None:
    """Ask, and wait until all is answered."""
    app, recorder = opened.app, opened.recorder
    recorder.forget()
    if view == "chat":
        sent = app.send(QUESTION)
    else:
        assert app.comparison is not None
        sent = app.comparison.send(QUESTION)
    assert sent
    answers = 1 if view == "chat" else 2
    await opened.until(lambda: len(recorder.done) >= answers and not _answering(app))


async def _streamed(opened: Opened, view: View) -> Screen:
    app = opened.app
    lags: list[float] = []
    beat = asyncio.create_task(heartbeat(lags))
    bytes_before, flushes_before = opened.drawn_bytes(), app.bridge.flushes
    started_s, cpu_s = time.perf_counter(), time.process_time()
    await asked(opened, view)
    answer_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    beat.cancel()
    return Screen(
        lag_p50_ms=percentile(lags, 0.5) * 1e3,
        lag_p99_ms=percentile(lags, 0.99) * 1e3,
        lag_max_ms=max(lags) * 1e3,
        flush_p99_ms=app.bridge.flush_p99_ms,
        flushes=app.bridge.flushes - flushes_before,
        drawn_bytes=opened.drawn_bytes() - bytes_before,
        cpu_share=cpu_s / answer_s,
        answer_s=answer_s,
    )


def _answering(app: QuantchatApp) -> bool:
    beside = app.comparison is not None and app.comparison.answering
    return beside or app.conversation.answering is not None


def draw_nowhere(app: QuantchatApp, after: Sequence[Callable[[], None]] = ()) -> Callable[[], int]:
    """Give the app a driver that renders everything and only counts the bytes; calls `after`."""
    from textual.drivers.headless_driver import HeadlessDriver

    count = 0

    class CountingDriver(HeadlessDriver):
        @property
        def is_headless(self) -> bool:
            return False

        def write(self, data: str) -> None:
            nonlocal count
            count += len(data.encode())
            for call in after:
                call()

    kind: type[Driver] = CountingDriver
    app.driver_class = kind
    return lambda: count


async def heartbeat(lags: MutableSequence[float]) -> None:
    while True:
        asked_s = time.perf_counter()
        await asyncio.sleep(HEARTBEAT_S)
        lags.append(time.perf_counter() - asked_s - HEARTBEAT_S)
