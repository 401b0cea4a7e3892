"""Memory of the app over a long conversation: resident bytes after every tenth of the messages."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from quantchat.bench.scripted import ScriptedEngine, long_answer
from quantchat.cli.bench_ui_app import Opened, Recorder, Shelf, run_app

if TYPE_CHECKING:
    from quantchat.settings.model import Settings

TOK_PER_S = 1e5
"""So fast that every answer comes in one piece or two."""
FLUSH_S = 0.01
POLL_S = 0.005
SAMPLES = 10
CODE_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What a conversation leaves in the process."""

    messages: int
    text_bytes: int
    """What was said, as stored."""
    resident_bytes: tuple[int, ...]
    """Of the process, at the start and after every tenth of the messages."""
    grown_bytes_per_message: float
    """Slope over the second half, when everything has been drawn once."""


def growth(settings: Settings, messages: int, say: Callable[[str], None]) -> Growth:
    """Ask until there are `messages` messages, each second one a list, a table and code."""
    answer = long_answer(CODE_LINES, items=6, rows=4)
    engine = ScriptedEngine(answer, TOK_PER_S)
    resident: list[int] = []
    said_bytes = 0

    async def work(opened: Opened) -> None:
        nonlocal said_bytes
        app = opened.app
        app.bridge.shortest_s = app.bridge.interval_s = FLUSH_S
        resident.append(_resident_bytes())
        for number in range(messages // 2):
            # Requests hold the whole conversation each; an app keeps none of them.
            opened.recorder.forget()
            question = f"Question {number}: and what comes after step {number}?"
            assert app.send(question)
            await opened.until(lambda: app.conversation.answering is None, poll_s=POLL_S)
            await asyncio.sleep(FLUSH_S)
            said_bytes += len(question.encode()) + len(answer.encode())
            if (number + 1) % max(1, messages // 2 // SAMPLES) == 0:
                resident.append(_resident_bytes())
                say(f"{2 * (number + 1)} messages: {resident[-1] / 2**20:.1f} MiB")

    run_app(Recorder(engine), settings, Shelf(), work)
    return Growth(
        messages=messages,
        text_bytes=said_bytes,
        resident_bytes=tuple(resident),
        grown_bytes_per_message=slope(resident[len(resident) // 2 :]) / (messages / SAMPLES),
    )


def slope(values: list[int]) -> float:
    """Growth from one value to the next, by least squares."""
    count = len(values)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(values) / count
    above = sum((at - middle) * (value - mean) for at, value in enumerate(values))
    return above / sum((at - middle) ** 2 for at in range(count))


def _resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)
