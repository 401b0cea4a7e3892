"""Timers of the app tick though the process is held up when they begin to wait."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from app_support import make_app, wait_until
from textual import timer as textual_timer

LATE = "held up"
DELAY_S = 0.01


async def test_a_timer_that_begins_late_ticks_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    ticks: list[str] = []

    def now_s() -> float:
        task = asyncio.current_task()
        if task is None or task.get_name() != LATE:
            return time.monotonic()
        looks.append(time.monotonic())
        return looks[-1] + (1.0 if len(looks) > 1 else 0.0)

    monkeypatch.setattr(textual_timer, "_time", SimpleNamespace(get_time=now_s))
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        app.set_timer(DELAY_S, lambda: ticks.append("app"), name=LATE)
        await wait_until(pilot, lambda: ticks)
        assert len(looks) > 1
        looks.clear()
        app.chat_screen.prompt.set_timer(DELAY_S, lambda: ticks.append("widget"), name=LATE)
        await wait_until(pilot, lambda: len(ticks) > 1)
        assert ticks == ["app", "widget"] and len(looks) > 1
