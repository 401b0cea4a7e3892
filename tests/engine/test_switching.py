"""What a switch gives back: never what the graphs of the model that follows know by address."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_log import Log

from quantchat.engine import memory
from quantchat.events import Unloaded


def test_workspaces_stay_while_a_model_is_there(
    log: Log, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared: list[bool] = []

    def give_back(*, workspaces: bool, collect: bool = True) -> None:
        cleared.append(workspaces)

    monkeypatch.setattr(memory, "give_back", give_back)
    log.load(model=str(tiny), device="cpu")
    log.load(model=str(tiny), device="cpu", scheme="int8")
    assert cleared and not any(cleared), "the next model's steps are captured by then"
    log.session.unload("main")
    log.until(lambda event: isinstance(event, Unloaded))
    assert cleared[-1]
