"""`pull`, `models` and `rm` as a person runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_servers import FakeServer, gguf, serve, wait_until


@pytest.fixture
def hub() -> Iterator[FakeServer]:
    with serve(FakeServer(repos={"own/one": {"tiny.Q4.gguf": gguf()}})) as fake:
        yield fake


@pytest.fixture
def environment(tmp_path: Path, hub: FakeServer) -> dict[str, str]:
    return {
        **os.environ,
        "QUANTCHAT_HOME": str(tmp_path / "home"),
        "HF_HUB_CACHE": str(tmp_path / "hf-cache"),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_secret",
        "HF_HUB_OFFLINE": "0",
        "no_proxy": "*",
    }


def start(environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "quantchat", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(environment: dict[str, str], *words: str) -> tuple[int, str, str]:
    process = start(environment, *words)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_pull_list_remove(environment: dict[str, str], tmp_path: Path, hub: FakeServer) -> None:
    path = tmp_path / "home/data/models/own--one/tiny.Q4.gguf"
    code, out, err = run(environment, "pull", "own/one")
    assert (code, out) == (0, f"{path}\n")
    assert "tiny.Q4.gguf" in err and "is ready" in err
    assert "hf_secret" not in out + err
    assert path.read_bytes() == gguf()

    hub.requests.clear()
    code, out, err = run(environment, "pull", "own/one")
    assert (code, out) == (0, f"{path}\n")
    assert "on disk already" in err
    assert hub.requests == []

    code, out, _ = run(environment, "models")
    assert code == 0
    assert "own/one" in out and str(path) in out and "starter" in out

    code, out, _ = run(environment, "models", "--json")
    listed = json.loads(out)
    assert [model["name"] for model in listed["on_disk"]] == ["own/one"]
    assert listed["on_disk"][0]["size_bytes"] == len(gguf())
    assert listed["catalog"][0]["alias"] == "starter"
    assert listed["catalog"][0]["on_disk"] is False

    code, _, err = run(environment, "rm", "own/one")
    assert code == 130 and path.exists(), "without a terminal nobody can say yes"
    code, out, _ = run(environment, "rm", "own/one", "--yes")
    assert code == 0 and "is gone" in out and not path.exists()
    code, _, err = run(environment, "rm", "own/one", "--yes")
    assert code == 1 and "quantchat pull own/one" in err


def test_failures_are_two_lines(environment: dict[str, str]) -> None:
    code, out, err = run(environment, "pull", "own/nothing")
    assert (code, out) == (1, "")
    told = err.splitlines()[-2:]
    assert told[0].startswith("quantchat: own/nothing could not be downloaded: 127.0.0.1 does")
    assert told[1].startswith("hint: ")
    assert "Traceback" not in err and "hf_secret" not in err
    code, _, err = run(environment, "pull", "strater")
    assert code == 1 and "did you mean starter?" in err


@pytest.mark.skipif(os.name != "posix", reason="signals are a matter of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_cleans_up(
    environment: dict[str, str], tmp_path: Path, hub: FakeServer, number: signal.Signals
) -> None:
    hub.faults.slow_s = 0.1
    process = start(environment, "pull", "own/one")
    models = tmp_path / "home/data/models"
    wait_until(lambda: any(path.stat().st_size for path in models.rglob("*.gguf")))
    start_s = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - start_s < 3
    assert process.returncode == 130
    assert "Traceback" not in err
    assert [path.name for path in models.rglob("*")] == [".incoming"]
