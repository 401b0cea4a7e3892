"""The bridge at full speed: tests wait for conditions, not for flushes."""

from __future__ import annotations

import pytest

from quantchat.tui import bridge


@pytest.fixture(autouse=True)
def quick_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush every 10 ms, whatever drawing costs on a busy machine."""
    monkeypatch.setattr(bridge, "SHORTEST_S", 0.01)
    monkeypatch.setattr(bridge, "LONGEST_S", 0.02)
