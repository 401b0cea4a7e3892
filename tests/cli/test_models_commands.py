"""`pull`, `models` and `rm` as a person runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_servers import FakeServer, gguf, serve, wait_until

from quantchat.cli.pull import figures
from quantchat.hub.progress import FetchProgress


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
        # Jobs in the background of a script are started with Ctrl+C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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


def half_there(tmp_path: Path) -> bool:
    models = tmp_path / "home/data/models"
    return any(path.stat().st_size for path in models.rglob("*.part"))


@pytest.mark.skipif(os.name != "posix", reason="signals are a matter of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_by_a_signal_it_goes_on_later(
    environment: dict[str, str], tmp_path: Path, hub: FakeServer, number: signal.Signals
) -> None:
    hub.faults.slow_s = 2.0
    process = start(environment, "pull", "own/one")
    wait_until(lambda: half_there(tmp_path))
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130 and "goes on with what has come" in err
    models = tmp_path / "home/data/models"
    assert [path.name for path in models.iterdir()] == [".incoming"]
    _, out, _ = run(environment, "models", "--json")
    left = json.loads(out)["unfinished"]
    state = "interrupted" if number == signal.SIGKILL else "stopped"
    assert [(job["name"], job["state"]) for job in left] == [("own/one", state)]
    assert 0 < left[0]["done_bytes"] < left[0]["total_bytes"] == len(gguf())

    hub.faults.slow_s = 0.0
    hub.requests.clear()
    code, out, _ = run(environment, "pull")
    assert (code, out) == (0, f"{models}/own--one/tiny.Q4.gguf\n")
    assert Path(out.strip()).read_bytes() == gguf()
    asked = [headers["range"] for path, headers in hub.requests if "/resolve/" in path]
    assert asked == [f"bytes={left[0]['done_bytes']}-"]
    assert list((models / ".incoming").iterdir()) == []


def test_several_are_pulled_and_one_given_up(
    environment: dict[str, str], tmp_path: Path, hub: FakeServer
) -> None:
    hub.repos["own/two"] = {"two.Q4.gguf": gguf(1000)}
    code, out, err = run(environment, "pull", "own/nothing", "own/one", "own/two")
    assert code == 1 and "own/nothing could not be downloaded" in err
    assert [Path(line).name for line in out.splitlines()] == ["tiny.Q4.gguf", "two.Q4.gguf"]
    code, out, _ = run(environment, "models")
    assert "Unfinished" in out and "own/nothing  failed" in out
    assert "still wanted" not in err
    code, out, _ = run(environment, "rm", "own/nothing")
    assert code == 0 and "not wanted any more" in out
    code, _, err = run(environment, "pull")
    assert code == 0 and "nothing waits" in err


def test_what_no_network_held_up_stays_on_the_list_and_that_is_said(
    environment: dict[str, str],
) -> None:
    code, _, err = run({**environment, "HF_ENDPOINT": "http://127.0.0.1:9"}, "pull", "own/one")
    assert code == 1 and "own/one could not be downloaded" in err
    assert "still wanted: own/one; the app tries again, `quantchat rm own/one`" in err
    code, out, _ = run(environment, "rm", "own/one")
    assert code == 0 and "not wanted any more" in out


def test_a_bar_has_bytes_speed_and_time_left() -> None:
    at = FetchProgress(
        done_bytes=45 << 20,
        total_bytes=98_362_432,
        bytes_per_s=1.5 * 2**20,
        remaining_s=32.4,
        source="hub",
        detail="a.gguf",
        stalled=False,
    )
    assert figures(at) == "45.0 MiB of 93.8 MiB, 1.50 MiB/s, 0:32 left"
    halted = replace(at, stalled=True, bytes_per_s=0.0, trouble="the connection broke off")
    told = "45.0 MiB of 93.8 MiB, stalled, tries again"
    assert figures(halted) == f"{told}: the connection broke off"
    assert figures(replace(halted, again_s=7.6)) == f"{told} in 8 s: the connection broke off"
    silent = replace(halted, trouble="", silent_s=12.3)
    assert figures(silent) == "45.0 MiB of 93.8 MiB, stalled, nothing for 12 s"
    assert figures(replace(at, total_bytes=0, remaining_s=None)) == "45.0 MiB, 1.50 MiB/s"
