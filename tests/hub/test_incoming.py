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

from quantchat.errors import DownloadError, ModelNotFoundError
from quantchat.hub.downloads import wanted
from quantchat.hub.fetch import fetch
from quantchat.hub.incoming import staging
from quantchat.hub.local import list_local, resolve
from quantchat.hub.partial import unfinished

_CHILD = (
    "import sys, threading; from quantchat.hub.fetch import fetch; "
    "fetch(sys.argv[1], on_progress=lambda _: None, cancel=threading.Event())"
)


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a matter of POSIX")
def test_kill_leaves_no_usable_half_and_is_resumed(hub: FakeServer, models: Path) -> None:
    hub.faults.slow_s = 0.5
    child = subprocess.Popen([sys.executable, "-c", _CHILD, "own/one"])

    def half_there() -> bool:
        return any(path.stat().st_size > 0 for path in models.rglob("*.gguf.part"))

    try:
        wait_until(half_there)
        assert [(each.name, each.running) for each in unfinished()] == [("own/one", True)]
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert list_local() == []
    with pytest.raises(ModelNotFoundError):
        resolve("own/one")
    assert [each.state for each in wanted()] == ["interrupted"]
    left = unfinished()[0]
    assert not left.running and 0 < left.done_bytes < left.total_bytes == 200_000
    hub.faults.slow_s = 0.0
    hub.requests.clear()
    model = fetch("own/one", on_progress=lambda _: None, cancel=threading.Event())
    assert model.path.read_bytes() == hub.repos["own/one"]["tiny.Q4.gguf"]
    asked = [headers.get("range") for path, headers in hub.requests if "/resolve/" in path]
    assert asked == [f"bytes={left.done_bytes}-"]
    assert list((models / ".incoming").iterdir()) == []
    assert wanted() == []


def test_two_at_once_end_with_one_whole_model(hub: FakeServer, models: Path) -> None:
    hub.faults.slow_s = 0.005
    children = [subprocess.Popen([sys.executable, "-c", _CHILD, "own/folder"]) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    asked = hub.paths("/resolve/")
    assert len(asked) == len(set(asked)), "the second one waits for what the first one brings"
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


def test_what_quantchat_did_not_make_is_not_replaced(hub: FakeServer, models: Path) -> None:
    own = models / "own--one"
    own.mkdir(parents=True)
    (own / "weights.bin").write_bytes(b"years of work")
    with pytest.raises(DownloadError, match="is in the way"):
        fetch("own/one", on_progress=lambda _: None, cancel=threading.Event())
    assert (own / "weights.bin").read_bytes() == b"years of work"
    assert hub.paths("/resolve/") == [], "nothing is brought that has no place"


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
