"""Downloads that are killed, that race, and what is swept away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_servers import FakeServer, wait_until

from quantchat.errors import ModelNotFoundError
from quantchat.hub.fetch import fetch
from quantchat.hub.incoming import staging
from quantchat.hub.local import list_local, resolve

_CHILD = (
    "import sys, threading; from quantchat.hub.fetch import fetch; "
    "fetch(sys.argv[1], on_progress=lambda _: None, cancel=threading.Event())"
)


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a matter of POSIX")
def test_kill_leaves_no_usable_half(hub: FakeServer, models: Path) -> None:
    hub.faults.slow_s = 0.05
    child = subprocess.Popen([sys.executable, "-c", _CHILD, "own/one"])

    def half_there() -> bool:
        return any(path.stat().st_size > 0 for path in models.rglob("*.gguf"))

    try:
        wait_until(half_there)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert list_local() == []
    with pytest.raises(ModelNotFoundError):
        resolve("own/one")
    hub.faults.slow_s = 0.0
    abandoned = list((models / ".incoming").iterdir())
    assert len(abandoned) == 1
    # The lock of the dead process is free, and a minute has passed.
    before_s = time.time() - 120
    for path in [*abandoned[0].rglob("*"), abandoned[0]]:
        os.utime(path, (before_s, before_s))
    model = fetch("own/one", on_progress=lambda _: None, cancel=threading.Event())
    assert model.path.read_bytes() == hub.repos["own/one"]["tiny.Q4.gguf"]
    assert list((models / ".incoming").iterdir()) == []


def test_two_at_once_end_with_one_whole_model(hub: FakeServer, models: Path) -> None:
    hub.faults.slow_s = 0.005
    children = [subprocess.Popen([sys.executable, "-c", _CHILD, "own/folder"]) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    model = resolve("own/folder")
    for path in model.path.glob("*.safetensors"):
        assert path.read_bytes() == hub.repos["own/folder"][path.name]
    assert list((models / ".incoming").iterdir()) == []
    assert len(list_local()) == 1


def test_damaged_model_is_replaced(hub: FakeServer, models: Path) -> None:
    model = fetch("own/one", on_progress=lambda _: None, cancel=threading.Event())
    model.path.write_bytes(b"GGUF")
    again = fetch("own/one", on_progress=lambda _: None, cancel=threading.Event())
    assert again.path == model.path
    assert again.path.read_bytes() == hub.repos["own/one"]["tiny.Q4.gguf"]


@pytest.mark.skipif(os.name != "posix", reason="locks tell only on POSIX")
@pytest.mark.parametrize("age_s", [120.0, 100_000.0])
def test_live_download_is_not_swept_before_a_day(home: Path, age_s: float) -> None:
    with staging("one") as live:
        (live.payload / "half.gguf").write_bytes(b"GG")
        before_s = time.time() - age_s
        folder = live.payload.parent
        for path in [*folder.rglob("*"), folder]:
            os.utime(path, (before_s, before_s))
        with staging("two"):
            assert live.payload.exists() == (age_s < 24 * 3600)
