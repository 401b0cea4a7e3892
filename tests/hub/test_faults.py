"""A hundred faults over a model of several files, and the refusals that end a download."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import threading
from pathlib import Path

import pytest
from fake_servers import TROUBLES, FakeServer, gguf, serve

from quantchat.errors import DownloadError
from quantchat.hub import http
from quantchat.hub.downloads import wanted
from quantchat.hub.fetch import FetchProgress, fetch
from quantchat.hub.local import LocalModel, list_local, remove, resolve
from quantchat.hub.partial import unfinished

_ROUNDS = 2
_SHARDS = 5
_SHARD_BYTES = 3 << 20


def pull(name: str, seen: list[FetchProgress] | None = None) -> LocalModel:
    out = [] if seen is None else seen
    return fetch(name, on_progress=out.append, cancel=threading.Event())


def big_folder() -> dict[str, bytes]:
    source = random.Random(7)
    names = [f"model-{n:05d}-of-{_SHARDS:05d}.safetensors" for n in range(1, _SHARDS + 1)]
    return {
        "config.json": json.dumps({"architectures": ["LlamaForCausalLM"]}).encode(),
        "tokenizer.json": b'{"version": "1.0"}',
        "model.safetensors.index.json": json.dumps(
            {"weight_map": {f"w{n}": name for n, name in enumerate(names)}}
        ).encode(),
        **{name: source.randbytes(_SHARD_BYTES) for name in names},
    }


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every piece of a body that the client was handed."""
    sizes: list[int] = []
    chunks = http.HttpStream.chunks

    def counted(self: http.HttpStream):  # type: ignore[no-untyped-def]
        for chunk in chunks(self):
            if "/resolve/" in self.url and self.status in (200, 206):
                sizes.append(len(chunk))
            yield chunk

    monkeypatch.setattr(http.HttpStream, "chunks", counted)
    return sizes


def test_a_hundred_faults_cost_no_byte(
    hub: FakeServer,
    other: FakeServer,
    received: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    files = hub.repos["own/big"] = big_folder()
    hub.private.add("own/big")
    shards = [name for name in files if name.startswith("model-")]
    troubles = {name: list(TROUBLES) * _ROUNDS for name in shards}
    faults = sum(map(len, troubles.values()))
    assert faults >= 100
    unreached = sum(order.count("gone") for order in troubles.values())
    for number, order in enumerate(troubles.values()):
        random.Random(number).shuffle(order)
    with serve(FakeServer()) as third:
        for storage in (other, third):
            storage.repos, storage.trouble_bytes = hub.repos, 100_000
            # One list for both: each fault happens exactly once.
            storage.troubles = troubles
        hub.cdns, hub.troubles = [other.url, third.url], troubles
        attempts = 0
        while True:
            attempts += 1
            try:
                model = pull("own/big")
                break
            except DownloadError:
                # Too many faults in a row: what came is taken up by the next attempt.
                assert attempts < 30
                assert list_local() == []
        for name, body in files.items():
            assert (model.path / name).read_bytes() == body
        assert not any(troubles.values())
        total_bytes = sum(map(len, files.values()))
        assert model.size_bytes == total_bytes
        assert sum(received) == total_bytes
        asked = [headers for storage in (other, third) for _, headers in storage.requests]
        assert len(asked) >= faults - unreached + len(files)
        assert not any("authorization" in headers for headers in asked)
        assert not any(hub.token in str(headers) for headers in asked)
        assert all("authorization" in headers for _, headers in hub.requests)
        assert hub.token not in caplog.text
    assert wanted() == [] and unfinished() == []


def test_range_that_is_never_granted_is_skipped_over(hub: FakeServer) -> None:
    hub.faults.drop_after_bytes, hub.faults.drops = 150_000, 1
    hub.faults.ignore_range = True
    assert pull("own/one").path.read_bytes() == hub.repos["own/one"]["tiny.Q4.gguf"]


def test_pieces_that_do_not_fit_are_fetched_once_more(hub: FakeServer) -> None:
    hub.faults.drop_after_bytes, hub.faults.drops = 150_000, 1
    hub.faults.corrupt_answers = 1
    assert pull("own/one").path.read_bytes() == hub.repos["own/one"]["tiny.Q4.gguf"]
    asked = [headers.get("range") for path, headers in hub.requests if "/resolve/" in path]
    assert asked == [None, "bytes=150000-", None]


def test_wrong_bytes_are_not_kept_for_the_next_attempt(hub: FakeServer) -> None:
    hub.faults.corrupt = True
    with pytest.raises(DownloadError, match="not the file that was promised"):
        pull("own/one")
    assert unfinished() == [] and list_local() == []
    assert [(job.name, job.state) for job in wanted()] == [("own/one", "failed")]
    assert "not the file that was promised" in wanted()[0].message
    hub.faults.corrupt = False
    assert pull("own/one").path.read_bytes() == hub.repos["own/one"]["tiny.Q4.gguf"]
    assert wanted() == []


def test_finished_files_are_not_fetched_again(hub: FakeServer) -> None:
    hub.faults.status = 0
    last = "model-00002-of-00002.safetensors"
    body = hub.repos["own/folder"][last]
    hub.repos["own/folder"][last] = body
    hub.pages[f"/own/folder/resolve/{'c' * 40}/{last}"] = ("text/plain", b"short")
    with pytest.raises(DownloadError):
        pull("own/folder")
    first = hub.paths("model-00001-of-00002")
    hub.pages.clear()
    model = pull("own/folder")
    assert (model.path / last).read_bytes() == body
    assert hub.paths("model-00001-of-00002") == first
    assert len(hub.paths("index.json")) == len(hub.paths("tokenizer.json")) == 1


def test_changed_revision_takes_up_what_is_still_the_same(hub: FakeServer, models: Path) -> None:
    files = hub.repos["own/folder"]
    last = "model-00002-of-00002.safetensors"
    hub.pages[f"/own/folder/resolve/{'c' * 40}/{last}"] = ("text/plain", b"short")
    with pytest.raises(DownloadError):
        pull("own/folder")
    hub.pages.clear()
    hub.requests.clear()
    files["tokenizer.json"] = b'{"version": "2.0"}'
    model = pull("own/folder")
    assert (model.path / "tokenizer.json").read_bytes() == files["tokenizer.json"]
    assert hub.paths("model-00001-of-00002") == []


def test_cached_blob_of_another_program_is_copied(
    hub: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = hub.repos["own/folder"]
    right, wrong = (files[f"model-0000{n}-of-00002.safetensors"] for n in (1, 2))
    blobs = tmp_path / "hf-cache" / "models--own--folder" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / hashlib.sha256(right).hexdigest()).write_bytes(right)
    (blobs / hashlib.sha256(wrong).hexdigest()).write_bytes(b"x" * len(wrong))
    before = {path.name: path.read_bytes() for path in blobs.iterdir()}
    model = pull("own/folder")
    for path in model.path.glob("*.safetensors"):
        assert path.read_bytes() == files[path.name]
    assert hub.paths("model-00001-of-00002") == []
    assert len(hub.paths("model-00002-of-00002")) == 1
    assert {path.name: path.read_bytes() for path in blobs.iterdir()} == before


def test_split_gguf_is_fetched_whole(hub: FakeServer) -> None:
    names = [f"q4/big-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    hub.repos["own/split"] = {name: gguf(50_000 + n) for n, name in enumerate(names)}
    model = pull("own/split")
    assert model.path.name == "big-00001-of-00003.gguf"
    assert model.size_bytes == 150_003
    assert resolve(f"own/split:{names[1]}").path == model.path
    del hub.repos["own/split"][names[2]]
    remove("own/split")
    with pytest.raises(DownloadError, match=r"holds no q4/big-00003-of-00003\.gguf"):
        pull(f"own/split:{names[0]}")


def test_renamed_repository_is_followed_and_told(hub: FakeServer) -> None:
    hub.renamed["old/one"] = "own/one"
    seen: list[FetchProgress] = []
    model = pull("old/one", seen)
    assert model.path.read_bytes() == hub.repos["own/one"]["tiny.Q4.gguf"]
    assert "old/one was renamed to own/one" in [progress.detail for progress in seen]
    assert resolve("old/one") == model


def test_disabled_repository(hub: FakeServer) -> None:
    hub.disabled.add("own/one")
    with pytest.raises(DownloadError, match="own/one was disabled by") as caught:
        pull("own/one")
    assert f"{hub.url}/own/one" in caught.value.hint


def test_private_repository_needs_the_token(
    hub: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.private.add("own/one")
    with pytest.raises(DownloadError, match="or it is private") as caught:
        pull("own/one")
    assert "HF_TOKEN" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert pull("own/one").size_bytes == 200_000


def test_busy_hub_is_asked_again(hub: FakeServer) -> None:
    hub.listings_busy = 2
    assert pull("own/one").size_bytes == 200_000


def test_long_wait_is_told_and_not_sat_out(
    hub: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "fake_servers._Handler._file",
        lambda self, body: self._answer(429, b"", {"Retry-After": "3600"}),
    )
    with pytest.raises(DownloadError, match="come back in 60 minutes"):
        pull("own/one")


def test_origin_that_changed_the_file_is_believed(hub: FakeServer, other: FakeServer) -> None:
    hub.cdns, other.repos = [other.url], hub.repos
    body = hub.repos["own/one"]["tiny.Q4.gguf"]
    hub.pages["/api/models/own/one/revision/main"] = (
        "application/json",
        json.dumps(
            {
                "id": "own/one",
                "sha": "c" * 40,
                "siblings": [
                    {
                        "rfilename": "tiny.Q4.gguf",
                        "size": len(body),
                        "lfs": {"sha256": "1" * 64},
                    }
                ],
            }
        ).encode(),
    )
    with pytest.raises(DownloadError, match="changed at the source"):
        pull("own/one")
