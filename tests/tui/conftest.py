"""The bridge at full speed, and users who look before they press: tests wait for conditions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
import textual.app
import textual.pilot
from app_support import drawn
from textual.notifications import Notification
from textual.pilot import Pilot

from quantchat.tui import bridge


@pytest.fixture(autouse=True)
def quick_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush every 10 ms, whatever drawing costs on a busy machine."""
    monkeypatch.setattr(bridge, "SHORTEST_S", 0.01)
    monkeypatch.setattr(bridge, "SHORTEST_ON_CPU_S", 0.01)
    monkeypatch.setattr(bridge, "LONGEST_S", 0.02)


@pytest.fixture(autouse=True)
def no_waiting_for_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a key Textual waits up to a second for an idle process, which a streaming app is not."""

    async def soon(*_: float) -> None:
        await asyncio.sleep(0.02)

    for module in (textual.app, textual.pilot):
        monkeypatch.setattr(module, "wait_for_idle", soon)


@pytest.fixture(autouse=True)
def news_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer over two keys than news is shown."""
    monkeypatch.setattr(Notification, "time_left", property(lambda notification: 600.0))


@pytest.fixture(autouse=True)
def looks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and clicks come when the screen stands still: where a click lands is found out before."""
    press = Pilot.press

    async def one_by_one(pilot: Pilot[Any], *keys: str) -> None:
        for key in keys:
            await drawn(pilot.app)
            await press(pilot, key)
        await drawn(pilot.app)

    monkeypatch.setattr(Pilot, "press", one_by_one)
    monkeypatch.setattr(Pilot, "_post_mouse_events", _after_drawing(Pilot._post_mouse_events))


def _after_drawing(act: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(act)
    async def later(pilot: Pilot[Any], *args: Any, **kwargs: Any) -> Any:
        await drawn(pilot.app)
        return await act(pilot, *args, **kwargs)

    return later
