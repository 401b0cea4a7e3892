"""The bridge at full speed: tests wait for conditions, not for flushes."""

from __future__ import annotations

import asyncio

import pytest
import textual.app
import textual.pilot

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
