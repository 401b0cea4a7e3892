"""What the screen costs: the real app drawn at 120x40 into nowhere, while an answer streams.

Two scenarios: the real engine with and without the app around it, and a scripted engine in a long
conversation. Textual's headless driver skips drawing, so ours counts bytes instead.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantchat.bench.scripted import ScriptedEngine, long_answer
from quantchat.bench.stats import Summary, percentile, summarize
from quantchat.engine.api import Engine
from quantchat.errors import EngineError
from quantchat.events import Done, EngineStopped, Event, Failed, LoadFailed
from quantchat.requests import ChatRequest, LoadRequest, ScoreRequest, Slot

if TYPE_CHECKING:
    from textual.driver import Driver

    from quantchat.settings.model import Settings
    from quantchat.store.chats import Chats
    from quantchat.tui.app import QuantchatApp
    from quantchat.tui.control.library import Library, ModelRow

SIZE = (120, 40)
HEARTBEAT_S = 0.005
POLL_S = 0.05
LOAD_TIMEOUT_S = 180.0
QUESTION = "Tell me a long story about a lighthouse keeper, his dog and a ship in the fog."
TURNS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """How the event loop fared while an answer streamed."""

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
    """CPU time of the process over the time the answer took; 1 is a whole core."""
    answer_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeCost:
    """The same answer with and without the app."""

    tokens: int
    plain_tok_per_s: Summary
    app_tok_per_s: Summary
    kept: float
    """Share of the plain speed that is left beside the app."""
    screen: Screen
    """The worst round."""


class Recorder:
    """An engine that outlives its app and remembers the last request and its end."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.request: ChatRequest | None = None
        self.done: Done | None = None
        self.problem = ""

    def load(self, request: LoadRequest) -> int:
        return self._engine.load(request)

    def cancel_load(self, slot: Slot) -> None:
        self._engine.cancel_load(slot)

    def unload(self, slot: Slot) -> None:
        self._engine.unload(slot)

    def chat(self, request: ChatRequest) -> int:
        self.request, self.done = request, None
        return self._engine.chat(request)

    def score(self, request: ScoreRequest) -> int:
        return self._engine.score(request)

    def cancel(self, request_id: int) -> None:
        self._engine.cancel(request_id)

    def drain(self) -> list[Event]:
        return self._note(self._engine.drain())

    def wait(self, timeout_s: float) -> list[Event]:
        return self._note(self._engine.wait(timeout_s))

    def close(self) -> None:
        """The app closes its engine; this one is needed again."""

    def _note(self, events: list[Event]) -> list[Event]:
        for event in events:
            if isinstance(event, Done):
                self.done = event
            elif isinstance(event, Failed | LoadFailed | EngineStopped):
                self.problem = event.message or "the engine stopped"
        return events


class Shelf:
    """A library on which every model is there already, for the scripted engine."""

    def rows(self) -> list[ModelRow]:
        return []

    def find(self, name: str) -> ModelRow | None:
        from quantchat.tui.control.library import ModelRow

        return ModelRow(name=name, title=name, size_bytes=0, on_disk=True)

    def fetch(self, name: str, on_progress: object, cancel: object) -> None:
        raise EngineError(f"{name} is not fetched in a benchmark")

    def remove(self, name: str) -> int:
        raise EngineError(f"{name} is not deleted in a benchmark")


def decode_cost(settings: Settings, rounds: int, say: Callable[[str], None]) -> DecodeCost:
    """Rounds of the same answer, in the app and then without it, on one engine."""
    from quantchat.engine.session import Session
    from quantchat.hub.local import resolve
    from quantchat.tui.control.hub_library import HubLibrary

    resolve(settings.model)
    session = Session()
    try:
        recorder = Recorder(session)
        plain: list[float] = []
        app: list[float] = []
        screens: list[Screen] = []
        tokens = 0
        for turn in range(rounds + 1):
            say("warming up" if turn == 0 else f"round {turn} of {rounds}")
            screen = _in_app(recorder, settings, HubLibrary(), turns=0)
            assert recorder.request is not None and recorder.done is not None
            with_app, request = recorder.done, recorder.request
            without = _plain(recorder, request)
            if turn == 0:
                continue
            tokens = with_app.metrics.completion_tokens
            app.append(with_app.metrics.decode_tok_per_s)
            plain.append(without.metrics.decode_tok_per_s)
            screens.append(screen)
    finally:
        session.close()
    summary = summarize(plain), summarize(app)
    return DecodeCost(
        tokens=tokens,
        plain_tok_per_s=summary[0],
        app_tok_per_s=summary[1],
        kept=summary[1].median / summary[0].median,
        screen=max(screens, key=lambda screen: screen.lag_p99_ms),
    )


def conversation_cost(settings: Settings, tok_per_s: float, *, code_lines: int = 300) -> Screen:
    """A scripted answer of lists, a table and long code, in a conversation of 200 messages."""
    engine = ScriptedEngine(long_answer(code_lines), tok_per_s)
    return _in_app(Recorder(engine), settings, Shelf(), turns=TURNS)


def _plain(recorder: Recorder, request: ChatRequest) -> Done:
    recorder.chat(request)
    while recorder.done is None:
        time.sleep(POLL_S)
        recorder.drain()
        _check(recorder)
    return recorder.done


def _in_app(recorder: Recorder, settings: Settings, library: Library, *, turns: int) -> Screen:
    # Textual reads these when it is imported.
    os.environ.setdefault("COLORTERM", "truecolor")
    os.environ.setdefault("TERM", "xterm-256color")
    from quantchat.store.chats import Chats
    from quantchat.store.db import open_database
    from quantchat.tui.app import QuantchatApp

    with tempfile.TemporaryDirectory(prefix="quantchat-bench-") as folder:
        database = open_database(Path(folder) / "conversations.db")
        try:
            chats = Chats(database)
            _fill(chats, turns)
            app = QuantchatApp(recorder, settings, chats, library)
            return asyncio.run(_streamed(app, recorder))
        finally:
            database.close()


def _fill(chats: Chats, turns: int) -> None:
    """A conversation of `turns` messages with lists and tables."""
    if not turns:
        return
    chat = chats.create(model="starter")
    answer = long_answer(code_lines=12)
    parent: int | None = None
    for number in range(turns):
        asked = number % 2 == 0
        content = f"Question {number}: what comes next?" if asked else answer
        parent = chats.add_turn(chat.id, parent, "user" if asked else "assistant", content).id


async def _streamed(app: QuantchatApp, recorder: Recorder) -> Screen:
    drawn = _draw_nowhere(app)
    result: list[Screen] = []

    async def drive(_: object) -> None:
        await _until(lambda: app.loads.ready, recorder, LOAD_TIMEOUT_S)
        await asyncio.sleep(0.5)
        lags: list[float] = []
        beat = asyncio.create_task(_heartbeat(lags))
        bytes_before, flushes_before = drawn(), app.bridge.flushes
        started_s, cpu_s = time.perf_counter(), time.process_time()
        recorder.done = None
        assert app.send(QUESTION)
        await _until(
            lambda: recorder.done is not None and app.conversation.answering is None, recorder
        )
        answer_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
        beat.cancel()
        result.append(
            Screen(
                lag_p50_ms=percentile(lags, 0.5) * 1e3,
                lag_p99_ms=percentile(lags, 0.99) * 1e3,
                lag_max_ms=max(lags) * 1e3,
                flush_p99_ms=app.bridge.flush_p99_ms,
                flushes=app.bridge.flushes - flushes_before,
                drawn_bytes=drawn() - bytes_before,
                cpu_share=cpu_s / answer_s,
                answer_s=answer_s,
            )
        )
        app.exit()

    await app.run_async(size=SIZE, auto_pilot=drive)
    if not result:
        raise EngineError(recorder.problem or "the app ended before the answer was complete")
    return result[0]


def _draw_nowhere(app: QuantchatApp) -> Callable[[], int]:
    """Give the app a driver that renders everything and only counts the bytes."""
    from textual.drivers.headless_driver import HeadlessDriver

    count = 0

    class CountingDriver(HeadlessDriver):
        @property
        def is_headless(self) -> bool:
            return False

        def write(self, data: str) -> None:
            nonlocal count
            count += len(data.encode())

    kind: type[Driver] = CountingDriver
    app.driver_class = kind
    return lambda: count


async def _heartbeat(lags: list[float]) -> None:
    while True:
        asked_s = time.perf_counter()
        await asyncio.sleep(HEARTBEAT_S)
        lags.append(time.perf_counter() - asked_s - HEARTBEAT_S)


async def _until(
    ready: Callable[[], bool], recorder: Recorder, timeout_s: float = float("inf")
) -> None:
    until_s = time.perf_counter() + timeout_s
    while not ready():
        _check(recorder)
        if time.perf_counter() > until_s:
            raise EngineError("the model was not ready in time")
        await asyncio.sleep(POLL_S)


def _check(recorder: Recorder) -> None:
    if recorder.problem:
        raise EngineError(recorder.problem)


def lines_of(cost: DecodeCost | None, long: Screen | None) -> list[str]:
    """The result for people."""
    lines = []
    if cost is not None:
        plain, app = cost.plain_tok_per_s, cost.app_tok_per_s
        lines.append(
            f"decode of {cost.tokens} tokens: {plain.median:.1f} tok/s alone "
            f"({plain.p20:.1f}-{plain.p80:.1f}), {app.median:.1f} in the app "
            f"({app.p20:.1f}-{app.p80:.1f}): {cost.kept:.1%} kept"
        )
        lines.append("  " + _screen_line(cost.screen))
    if long is not None:
        lines.append(f"scripted answer of lists, table and code behind {TURNS} messages:")
        lines.append("  " + _screen_line(long))
    return lines


def _screen_line(screen: Screen) -> str:
    return (
        f"event-loop lag p50 {screen.lag_p50_ms:.1f}, p99 {screen.lag_p99_ms:.1f}, "
        f"max {screen.lag_max_ms:.1f} ms; flush p99 {screen.flush_p99_ms:.1f} ms CPU; "
        f"{screen.flushes} flushes, {screen.drawn_bytes / 1024:.0f} KiB drawn, "
        f"{screen.cpu_share:.2f} cores over {screen.answer_s:.1f} s"
    )


def record_of(cost: DecodeCost | None, long: Screen | None) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        "decode": None if cost is None else asdict(cost),
        "conversation": None if long is None else asdict(long),
    }
