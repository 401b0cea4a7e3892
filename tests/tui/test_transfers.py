"""Downloads in the app, over a loopback hub: beside a chat, through every refusal, over restarts."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from app_support import answered, ask, dialog_text, ready, wait_until
from download_support import (
    HELD_BYTES,
    NOTES,
    half_there,
    line,
    loaded,
    no_room,
    opened,
    phase,
    ranges,
    said,
)
from fake_servers import FakeServer, folder_files, gguf, serve
from fake_servers import wait_until as wait_in_thread
from hub_home import isolate

from quantchat import paths
from quantchat.hub.downloads import want, wanted
from quantchat.hub.local import find, list_local
from quantchat.hub.part import Part
from quantchat.hub.partial import unfinished
from quantchat.tui.control import hub_transfers
from quantchat.tui.control.hub_transfers import HubTransfers

APP = Path(__file__).with_name("downloading_app.py")
BODY = gguf()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, and wait for threads however slow the machine is."""
    monkeypatch.setattr(hub_transfers, "LOOK_S", 0.05)
    monkeypatch.setattr(hub_transfers, "CLOSE_S", 60.0)
    monkeypatch.setattr(hub_transfers, "GIVE_UP_S", 60.0)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    server = FakeServer(repos={"own/folder": folder_files(), "own/one": {"tiny.Q4.gguf": BODY}})
    with serve(server):
        isolate(tmp_path, monkeypatch, server.url)
        yield server


@pytest.fixture
def local(tmp_path: Path) -> str:
    """A model that is on disk."""
    path = tmp_path / "here.gguf"
    path.write_bytes(gguf(1000))
    return str(path)


async def test_a_chosen_model_comes_beside_the_chat_and_is_loaded(
    hub: FakeServer, local: str
) -> None:
    hub.faults.hold_after_bytes = HELD_BYTES
    async with opened(local) as (pilot, app):
        await ready(pilot, app)
        app.choose_model("own/one", "int4")
        await wait_until(pilot, lambda: app.loads.awaited == "own/one")
        await wait_until(pilot, half_there(app, "own/one"))
        assert app.preferences.settings.scheme == "auto"
        app.transfers.add(["own/folder"])
        assert app.loads.state == "ready" and app.preferences.settings.model == local
        await wait_until(pilot, lambda: said("is loaded as soon as it came"))
        await ask(pilot, app, "hello?")
        await answered(pilot, app, 2)
        text, share = app.status.activity()
        assert "fetching 1" in text and " of " in text and " · one · " in text
        assert "1 more on the list" in text and share == pytest.approx(0.5, abs=0.1)
        hub.flowing.set()
        await wait_until(pilot, lambda: loaded(app) == "own/one")
        assert app.preferences.settings.model == "own/one"
        assert app.loads.answering is not None and app.loads.answering.scheme == "int4"
        await wait_until(pilot, lambda: app.transfers.arrived == 2)
        await wait_until(pilot, lambda: said("folder is on disk;"))
        assert loaded(app) == "own/one" and app.transfers.rows() == [] and wanted() == []
        app.transfers.add(["own/nowhere"])
        await wait_until(pilot, lambda: phase(app, "own/nowhere") == "failed")
        for name in ("own/one", "own/nowhere"):
            app.transfers.drop(name)
        await wait_until(pilot, lambda: said("nowhere is not fetched any more"))
        assert not said("one is not fetched any more"), "it came while it was asked about"
        assert app.status.activity() == ("", None)


async def test_a_model_that_came_late_does_not_push_a_later_choice_away(
    hub: FakeServer, local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantchat.hub.progress._STALL_S", 0.2)
    other = tmp_path / "other.gguf"
    other.write_bytes(gguf(1000))
    hub.faults.hold_after_bytes = HELD_BYTES
    async with opened(local) as (pilot, app):
        await ready(pilot, app)
        app.choose_model("own/one")
        await wait_until(pilot, half_there(app, "own/one"))
        await wait_until(pilot, lambda: phase(app, "own/one") == "stalled")
        assert "stalled" in app.status.activity()[0] and "/s" not in app.status.activity()[0]
        app.choose_model(local)
        assert app.loads.awaited == "" and app.status.model_state() == ""
        app.choose_model("own/one")
        await wait_until(pilot, lambda: app.status.model_state() == "↓ own/one")
        app.choose_model(str(other))
        await wait_until(pilot, lambda: loaded(app) == str(other))
        hub.flowing.set()
        await wait_until(pilot, lambda: said("one is on disk;", "loads it"))
        assert loaded(app) == str(other) and app.loads.awaited == "" and app.loads.state == "ready"


async def test_refusals_have_words_of_their_own_and_the_token_is_in_none(
    hub: FakeServer,
    local: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.allowed = False
    hub.gated.add("own/gated")
    hub.disabled.add("own/shut")
    hub.renamed["own/old"] = "own/one"
    hub.repos |= dict.fromkeys(("own/gated", "own/shut"), hub.repos["own/one"])
    hub.repos["own/empty"] = {"README.md": b"nothing"}
    names = ["own/gated", "own/gone", "own/shut", "own/empty", "own/old"]
    told = [
        ("gated", "your account has no access yet", f"{hub.url}/own/gated"),
        ("gone", "does not accept the token, or own/gone is private or does not exist"),
        ("shut", "was disabled by", "look for a copy by another owner"),
        ("empty", "neither safetensors with a config nor a GGUF file"),
        ("own/old was renamed to own/one",),
        ("old is on disk",),
    ]
    async with opened(local) as (pilot, app):
        await ready(pilot, app)
        app.transfers.add(names)
        for words in told:
            await wait_until(pilot, lambda words=words: said(*words))
        monkeypatch.delenv("HF_TOKEN")
        hub.private.add("own/gone")
        app.transfers.add(["own/gated", "own/gone"])
        await wait_until(pilot, lambda: said("you are not logged in", "hf auth login"))
        await wait_until(pilot, lambda: said("or it is private", "HF_TOKEN"))
        usage = namedtuple("usage", "total used free")
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
            app.transfers.add(["own/one"])
            await wait_until(pilot, lambda: said("not enough room in", "free some space"))
        with monkeypatch.context() as patch:
            patch.setattr(Part, "append", no_room)
            app.transfers.add(["own/one"])
            await wait_until(
                pilot, lambda: said("one was not downloaded", "No space left", "what came is kept")
            )
        app.transfers.add(["nonsense"])
        await wait_until(pilot, lambda: said("no model is called 'nonsense'"))
        await wait_until(pilot, lambda: {row.phase for row in app.transfers.rows()} == {"failed"})
        found = line(app, "own/gated")
        assert found is not None and "not logged in" in found.message and found.hint
        hub.gated.clear()
        app.transfers.add(["own/gated"])
        await wait_until(pilot, lambda: said("gated is on disk"))
    queue = json.dumps([str(job) for job in wanted()])
    assert hub.token not in caplog.text and hub.token not in queue


async def test_quit_while_it_comes_goes_on_at_the_next_start(hub: FakeServer, local: str) -> None:
    hub.faults.hold_after_bytes = HELD_BYTES
    async with opened("own/one") as (pilot, app):
        await wait_until(pilot, lambda: app.loads.state == "missing")
        await pilot.press("enter")
        await wait_until(pilot, half_there(app, "own/one"))
        assert "stops it" in app.status.activity()[0]
        transfers = app.transfers
    assert isinstance(transfers, HubTransfers) and transfers._worker is not None
    assert not transfers._worker.is_alive()
    assert [(job.name, job.state) for job in wanted()] == [("own/one", "waiting")]
    kept_bytes = unfinished()[0].done_bytes
    assert kept_bytes >= HELD_BYTES
    hub.requests.clear()
    hub.flowing.set()
    async with opened("own/one") as (pilot, app):
        await ready(pilot, app)
        await wait_until(pilot, lambda: said("The download of own/one goes on", "are there"))
        assert loaded(app) == "own/one"
    assert ranges(hub) == [f"bytes={kept_bytes}-"]
    model = find("own/one")
    assert model is not None and model.path.read_bytes() == BODY


async def test_stop_keeps_the_bytes_and_drop_does_not(hub: FakeServer, local: str) -> None:
    hub.faults.hold_after_bytes = HELD_BYTES
    async with opened(local) as (pilot, app):
        await ready(pilot, app)
        app.transfers.add(["own/one", "own/folder"])
        await wait_until(pilot, half_there(app, "own/one"))
        hub.gated.add("own/later")
        hub.repos["own/later"] = hub.repos["own/one"]
        app.transfers.add(["own/later"])
        await wait_until(pilot, lambda: said("later was not downloaded", "gated"))
        assert phase(app, "own/one") == "running", "a refusal is told before its turn"
        app.transfers.drop("own/later")
        app.transfers.stop("own/folder")
        await wait_until(pilot, lambda: phase(app, "own/folder") == "stopped")
        app.transfers.stop("own/one")
        await wait_until(pilot, lambda: phase(app, "own/one") == "stopped")
        await wait_until(pilot, lambda: said("stopped; what came is kept"))
        found = line(app, "own/one")
        assert found is not None and found.done_bytes >= HELD_BYTES
        assert found.total_bytes == len(BODY)
        hub.requests.clear()
        app.transfers.add(["own/one"])
        await wait_until(pilot, lambda: len(ranges(hub)) == 1)
        assert ranges(hub) == [f"bytes={found.done_bytes}-"]
        await wait_until(pilot, lambda: phase(app, "own/one") == "running")
        for name in ("own/one", "own/folder"):
            app.transfers.drop(name)
        await wait_until(pilot, lambda: app.transfers.rows() == [])
        await wait_until(pilot, lambda: said("one is not fetched any more", "are free again"))
    assert unfinished() == [] and wanted() == [] and list_local() == []


async def test_what_takes_long_to_stop_is_not_taken_up_again(
    hub: FakeServer, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_transfers, "GIVE_UP_S", 0.0)
    hub.faults.hold_after_bytes = HELD_BYTES
    async with opened(local) as (pilot, app):
        await ready(pilot, app)
        app.transfers.add(["own/one"])
        await wait_until(pilot, half_there(app, "own/one"))
        app.transfers.stop("own/one")
        await wait_until(pilot, lambda: said("stopped; what came is kept"))
        await wait_until(pilot, lambda: phase(app, "own/one") == "stopped")
        app.transfers.add(["own/one"])
        await wait_until(pilot, lambda: phase(app, "own/one") == "running")


async def test_a_hub_that_is_gone_is_told_once_and_asked_again(
    hub: FakeServer, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_transfers, "AGAIN_S", 0.1)
    monkeypatch.setattr(hub_transfers, "LONGEST_AGAIN_S", 0.1)
    repos = {"own/plug": {"plug.gguf": gguf(300_000)}}
    with ExitStack() as first:
        plug = first.enter_context(serve(FakeServer(repos=repos)))
        monkeypatch.setenv("HF_ENDPOINT", plug.url)
        plug.faults.hold_after_bytes = HELD_BYTES
        async with opened(local) as (pilot, app):
            await ready(pilot, app)
            app.choose_model("own/plug")
            await wait_until(pilot, half_there(app, "own/plug"))
            first.close()
            await wait_until(pilot, lambda: said("plug was not downloaded", "by itself"))
            await wait_until(
                pilot, lambda: "plug waits, tries again in" in app.status.activity()[0]
            )
            assert app.loads.awaited == "own/plug"
            kept_bytes = unfinished()[0].done_bytes
            with serve(FakeServer(repos=repos), urlsplit(plug.url).port or 0) as again:
                await wait_until(pilot, lambda: loaded(app) == "own/plug")
    assert len([note for note in NOTES if "plug was not downloaded" in note]) == 1
    model = find("own/plug")
    assert model is not None and model.path.read_bytes() == repos["own/plug"]["plug.gguf"]
    assert ranges(again) == [f"bytes={kept_bytes}-"]


async def test_without_a_network_the_first_model_is_asked_for_again(
    hub: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_transfers, "AGAIN_S", 0.1)
    monkeypatch.setattr(hub_transfers, "LONGEST_AGAIN_S", 0.1)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    async with opened("own/one") as (pilot, app):
        await wait_until(pilot, lambda: app.loads.state == "missing")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "refused the connection" in dialog_text(app))
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        await ready(pilot, app)
        assert loaded(app) == "own/one"


async def test_offline_a_start_says_once_of_what_was_left(
    hub: FakeServer, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_transfers, "AGAIN_S", 0.1)
    monkeypatch.setattr(hub_transfers, "LONGEST_AGAIN_S", 0.1)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    want(["own/one"])
    async with opened(local) as (pilot, app):
        await ready(pilot, app)
        await wait_until(pilot, lambda: said("one was not downloaded", "by itself"))
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        await wait_until(pilot, lambda: said("one is on disk"))
    assert not said("goes on")


async def test_two_apps_fetch_once(hub: FakeServer, local: str) -> None:
    hub.faults.hold_after_bytes = HELD_BYTES
    beside = HubTransfers()
    beside.add(["own/one"])
    try:
        wait_in_thread(lambda: [row.phase for row in beside.rows()] == ["running"])
        async with opened(local) as (pilot, app):
            await ready(pilot, app)
            await wait_until(pilot, lambda: phase(app, "own/one") == "elsewhere")
            await wait_until(pilot, half_there(app, "own/one"))
            app.choose_model("own/one")
            app.transfers.stop("own/one")
            await wait_until(pilot, lambda: said("by another quantchat", "stop it there"))
            await wait_until(pilot, lambda: app.loads.awaited == "own/one")
            hub.flowing.set()
            await wait_until(pilot, lambda: loaded(app) == "own/one")
            await wait_until(pilot, lambda: [each.what for each in beside.news()] == ["came"])
    finally:
        beside.close()
    assert ranges(hub) == [None] and wanted() == []


async def test_a_name_that_leads_nowhere_does_not_hold_the_list_up(
    hub: FakeServer, local: str
) -> None:
    want(["not a name", "own/one"])
    async with opened(local) as (pilot, app):
        await ready(pilot, app)
        await wait_until(pilot, lambda: said("The download of own/one goes on"))
        await wait_until(pilot, lambda: app.transfers.arrived == 1)
        await wait_until(pilot, lambda: phase(app, "not a name") == "failed")
        app.transfers.drop("not a name")
        await wait_until(pilot, lambda: app.transfers.rows() == [])


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_kill_9_costs_no_byte_that_came(
    hub: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [f"model-{n:05d}-of-00003.safetensors" for n in (1, 2, 3)]
    hub.repos["own/big"] = {
        **folder_files(),
        "model.safetensors.index.json": json.dumps(
            {"weight_map": {f"w{at}": name for at, name in enumerate(shards)}}
        ).encode(),
        **{name: gguf(300_000 + at)[::-1] for at, name in enumerate(shards)},
    }
    hub.faults.hold_after_bytes = HELD_BYTES
    monkeypatch.setenv("HOME", str(tmp_path))

    def start(half_bytes: int) -> subprocess.Popen[str]:
        words = [sys.executable, str(APP), "own/big", str(half_bytes)]
        return subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )

    app = start(len(shards) * HELD_BYTES)
    assert app.stdout is not None
    line = app.stdout.readline()
    small = set(hub.repos["own/big"]) & {"config.json", "tokenizer.json", "tokenizer_config.json"}

    def only_shards_come() -> bool:
        names = {path.name for path in paths.models_dir().rglob("*")}
        return small <= names and {f"{name}.part" for name in small}.isdisjoint(names)

    if line:
        wait_in_thread(only_shards_come)
    app.kill()
    _, err = app.communicate(timeout=60)
    assert line == "half\n", err
    assert [(job.name, job.state) for job in wanted()] == [("own/big", "interrupted")]
    assert list_local() == []
    parts = {path.stem: path.stat().st_size for path in paths.models_dir().rglob("*.part")}
    assert set(parts) == set(shards) and all(parts.values())

    hub.requests.clear()
    hub.flowing.set()
    app = start(0)
    out, err = app.communicate(timeout=120)
    assert app.returncode == 0, err
    assert any("own/big goes on" in note for note in json.loads(out))
    model = find("own/big")
    assert model is not None
    for name in shards:
        assert (model.path / name).read_bytes() == hub.repos["own/big"][name]
    asked = {path.rpartition("/")[2]: headers.get("range") for path, headers in hub.requests}
    for name, kept_bytes in parts.items():
        assert asked[name] == f"bytes={kept_bytes}-"
    assert len(hub.paths("/resolve/")) == len(shards)
