"""How long the model picker takes to answer a key while it knows thousands of repositories.

Owns the keys, the repositories that are made up, and when a key counts as answered: once the frame
that shows the list for what then stands in the field was handed to the terminal.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantchat.bench.scripted import ScriptedEngine, long_answer
from quantchat.bench.stats import Summary, summarize
from quantchat.cli.bench_ui_app import SETTLE_S, Opened, Recorder, Shelf, run_app
from quantchat.errors import EngineError
from quantchat.hub.search import FoundRepo

if TYPE_CHECKING:
    from quantchat.hub.search import Sort
    from quantchat.settings.model import Settings
    from quantchat.tui.screens.models import ModelsScreen

SIZE = (200, 50)
TYPED = ("qwen instruct", "qwen gguf", "owner-1/qwen", "qwen 99", "q4 nothing has this", "awq")
"""Each is typed key by key and taken back again."""
BETWEEN_S = (0.05, 0.11, 0.083, 0.19, 0.067)
"""Pauses between keys: of one length they would keep step with the frames."""
ANSWER_TIMEOUT_S = 30.0
TOK_PER_S = 1e5
LATE_MS = 50.0
NAMES = {" ": "space", "-": "minus", "/": "slash"}
"""Of keys that are no letter or digit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typing:
    """Keys and the list that answers them."""

    results: int
    columns: int
    lines: int
    answer_ms: Summary
    """From the key to the frame with the list for it."""
    late: int
    """Keys answered after more than 50 ms."""
    loop_cpu_ms: Summary
    """CPU time of the event loop for a key, with all that follows it until the next."""


class Crowded(Shelf):
    """A hub that found many for the first question and is slow to answer any other."""

    def __init__(self, results: int) -> None:
        self._found = made_up(results)
        self._asked = False

    def search(self, query: str, sort: Sort, cancel: object) -> list[FoundRepo]:
        """All of them once; then nothing until the question is given up."""
        if not self._asked:
            self._asked = True
            return self._found
        assert isinstance(cancel, threading.Event)
        cancel.wait(ANSWER_TIMEOUT_S)
        return []


def made_up(count: int) -> list[FoundRepo]:
    """Repositories that differ in all that is shown."""
    kinds = ("GGUF", "AWQ", "GPTQ-Int4", "FP8", "")
    licences = ("apache-2.0", "llama3.1", "mit", "")
    return [
        FoundRepo(
            repo=f"owner-{at % 97}/Qwen-{at}B-Instruct-{kinds[at % len(kinds)]}".rstrip("-"),
            downloads=10**7 // (at + 1),
            likes=10**5 // (at + 1),
            updated=f"2026-{at % 12 + 1:02}-{at % 28 + 1:02}",
            gated=at % 11 == 0,
            private=False,
            license=licences[at % len(licences)],
            tags=(),
            parameters=(at + 1) * 10**8,
        )
        for at in range(count)
    ]


class Keys:
    """Presses keys one after another and takes down when each was answered."""

    def __init__(self, opened: Opened, screen: ModelsScreen) -> None:
        self._opened = opened
        self._screen = screen
        self._pressed = 0
        self._answered = asyncio.Event()
        self._shown_before = 0
        self._pressed_s = 0.0
        self.answers_ms: list[float] = []
        self.loop_cpu_ms: list[float] = []
        opened.after_drawing.append(self._drawn)

    async def press(self, key: str, character: str | None) -> None:
        """Press it, wait for the list and then for the next key's time."""
        from textual.events import Key

        app, rows = self._opened.app, self._screen.rows
        event = Key(key, character)
        event.set_sender(app)
        self._shown_before = rows.shows
        self._answered.clear()
        self._pressed_s, cpu_s = time.perf_counter(), time.thread_time()
        app.post_message(event)
        await asyncio.wait_for(self._answered.wait(), ANSWER_TIMEOUT_S)
        await asyncio.sleep(BETWEEN_S[self._pressed % len(BETWEEN_S)])
        self._pressed += 1
        self.loop_cpu_ms.append((time.thread_time() - cpu_s) * 1e3)

    def _drawn(self) -> None:
        if not self._answered.is_set() and self._screen.rows.drawn > self._shown_before:
            self.answers_ms.append((time.perf_counter() - self._pressed_s) * 1e3)
            self._answered.set()


def typing(settings: Settings, results: int, rounds: int) -> Typing:
    """Open the picker, let the hub find `results`, then type and take back what was typed."""
    taken: list[Keys] = []

    async def work(opened: Opened) -> None:
        from quantchat.tui.screens.models import ModelsScreen

        screen = ModelsScreen()
        opened.app.push_screen(screen)
        await opened.until(lambda: screen.is_mounted and screen.is_current)
        screen.type("qwen")
        await opened.until(lambda: screen.rows.count == results, ANSWER_TIMEOUT_S)
        screen.type("")
        await asyncio.sleep(SETTLE_S)
        keys = Keys(opened, screen)
        for _ in range(rounds):
            for text in TYPED:
                for character in text:
                    await keys.press(NAMES.get(character, character), character)
                for _ in text:
                    await keys.press("backspace", None)
        taken.append(keys)

    engine = ScriptedEngine(long_answer(1), TOK_PER_S)
    run_app(Recorder(engine), settings, Crowded(results), work, size=SIZE)
    if not taken:
        raise EngineError("the app ended before all keys were answered")
    answers, loop = taken[0].answers_ms, taken[0].loop_cpu_ms
    return Typing(
        results=results,
        columns=SIZE[0],
        lines=SIZE[1],
        answer_ms=summarize(answers),
        late=sum(each > LATE_MS for each in answers),
        loop_cpu_ms=summarize(loop),
    )
