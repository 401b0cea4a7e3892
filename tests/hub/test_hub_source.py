"""Fetching from a hub: what is taken, what is checked, how faults end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from fake_servers import FakeServer, gguf

from quantchat.errors import Cancelled, DownloadError
from quantchat.hub.catalog import CatalogEntry, HubSource
from quantchat.hub.fetch import FetchProgress, fetch, fetch_entry
from quantchat.hub.local import LocalModel, list_local, resolve
from quantchat.hub.partial import unfinished


def pull(name: str, seen: list[FetchProgress] | None = None) -> LocalModel:
    out = [] if seen is None else seen
    return fetch(name, on_progress=out.append, cancel=threading.Event())


def assert_nothing_left(models: Path) -> None:
    assert [path for path in models.rglob("*") if path.name != ".incoming"] == []


def test_folder_takes_config_tokenizer_and_shards(hub: FakeServer, models: Path) -> None:
    seen: list[FetchProgress] = []
    model = pull("own/folder", seen)
    assert model.container == "safetensors"
    assert model.path == models / "own--folder"
    names = {path.name for path in model.path.iterdir()} - {"quantchat-model.json"}
    assert names == {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    }
    for name in names:
        assert (model.path / name).read_bytes() == hub.repos["own/folder"][name]
    assert model.size_bytes == sum(len(hub.repos["own/folder"][name]) for name in names)
    assert seen[-1].total_bytes == model.size_bytes
    assert resolve("own/folder") == model


def test_second_fetch_asks_nobody(hub: FakeServer) -> None:
    first = pull("own/one:tiny.Q4.gguf")
    assert first.path.read_bytes() == hub.repos["own/one"]["tiny.Q4.gguf"]
    hub.requests.clear()
    assert pull("own/one:tiny.Q4.gguf") == first
    assert pull(f"{hub.url}/own/one/resolve/main/tiny.Q4.gguf") == first
    assert hub.requests == []


def test_repository_with_one_gguf_needs_no_file_name(hub: FakeServer) -> None:
    model = pull("own/one")
    assert model.container == "gguf"
    assert resolve("own/one") == model
    assert resolve("own/one:tiny.Q4.gguf").path == model.path


@pytest.mark.parametrize(
    "names",
    [
        (f"{'a-model-of-many-words-' * 5}Q4_K_M.gguf", f"{'a-model-of-many-words-' * 5}Q8_0.gguf"),
        ("a b.gguf", "a_b.gguf"),
        ("sub/a.gguf", "sub--a.gguf"),
    ],
)
def test_files_of_like_names_are_two_models(hub: FakeServer, names: tuple[str, str]) -> None:
    files = {name: gguf(1000 + n) for n, name in enumerate(names)}
    hub.repos["own/many"] = files
    for name in names:
        model = pull(f"own/many:{name}")
        assert model.path.read_bytes() == files[name]
        assert len(model.path.parent.name) <= 120
        assert resolve(f"own/many:{name}") == model


def test_what_lies_beside_a_model_is_no_second_one(hub: FakeServer) -> None:
    hub.repos["own/sees"] = {"a-mmproj.txt": b"", "mmproj-F16.gguf": gguf(9), "see.gguf": gguf(999)}
    model = pull("own/sees")
    assert model.path.name == "see.gguf"
    (model.path.parent / "mmproj-F16.gguf").write_bytes(gguf(9))
    (model.path.parent / "quantchat-model.json").unlink()
    assert resolve(str(model.path.parent)).path == model.path


def test_several_gguf_files_are_named(hub: FakeServer) -> None:
    hub.repos["own/many"] = {"a.Q4.gguf": b"GGUF", "b.Q8.gguf": b"GGUF"}
    with pytest.raises(DownloadError, match=r"a\.Q4\.gguf, b\.Q8\.gguf") as caught:
        pull("own/many")
    assert "own/many:a.Q4.gguf" in caught.value.hint


@pytest.mark.parametrize("drop_after", [1, 4096, 70_001])
def test_drop_is_resumed_by_range(hub: FakeServer, drop_after: int) -> None:
    hub.faults.drop_after_bytes, hub.faults.drops = drop_after, 2
    model = pull("own/one")
    assert model.path.read_bytes() == hub.repos["own/one"]["tiny.Q4.gguf"]
    ranges = [headers.get("range") for path, headers in hub.requests if "/resolve/" in path]
    assert ranges == [None, f"bytes={drop_after}-", f"bytes={2 * drop_after}-"]
    # The digest decides: an ETag that another storage host gives would cost the whole file.
    assert not any("if-range" in headers for _, headers in hub.requests)


def test_when_it_is_tried_again_is_told(hub: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_WAIT_S", "_MAX_WAIT_S"):
        monkeypatch.setattr(f"quantchat.hub.download.{name}", 0.8)
    hub.faults.drop_after_bytes, hub.faults.drops = 4096, 1
    seen: list[FetchProgress] = []
    pull("own/one", seen)
    waited = [each for each in seen if each.again_s is not None]
    assert waited and all(each.trouble for each in waited)
    assert waited[0].waits == "tries again in 1 s" and seen[-1].waits == ""


@pytest.mark.parametrize("fault", ["ignore_range", "change_after_drop"])
def test_resume_falls_back_to_the_whole_file(hub: FakeServer, fault: str) -> None:
    hub.faults.drop_after_bytes, hub.faults.drops = 50_000, 1
    setattr(hub.faults, fault, True)
    if fault == "change_after_drop":
        # Other bytes after the drop: taken whole, and refused by the digest.
        with pytest.raises(DownloadError, match="not the file that was promised"):
            pull("own/one")
    else:
        assert pull("own/one").path.read_bytes() == hub.repos["own/one"]["tiny.Q4.gguf"]


def test_busy_storage_is_asked_again(hub: FakeServer) -> None:
    hub.faults.busy = 2
    assert pull("own/one").size_bytes == 200_000


@pytest.mark.parametrize("fault", ["corrupt", "extra_bytes"])
def test_wrong_bytes_are_refused(hub: FakeServer, models: Path, fault: str) -> None:
    setattr(hub.faults, fault, 1)
    with pytest.raises(DownloadError, match=r"promised|longer than announced"):
        pull("own/one")
    assert_nothing_left(models)


def test_small_files_are_checked_by_their_git_digest(hub: FakeServer) -> None:
    config = hub.repos["own/folder"]["config.json"]
    other = config.replace(b"Llama", b"Alpac")
    hub.pages[f"/own/folder/resolve/{'c' * 40}/config.json"] = ("file", other)
    with pytest.raises(DownloadError, match=r"config\.json is not the file .* git digest"):
        pull("own/folder")
    assert list_local() == []


def test_pinned_digest_is_compared_before_the_download(hub: FakeServer, models: Path) -> None:
    entry = CatalogEntry(
        alias="pinned",
        title="",
        repo="own/one",
        file="tiny.Q4.gguf",
        parameters=1,
        license="",
        size_bytes=200_000,
        sha256="0" * 64,
        context_tokens=1,
        note="",
        sources=(HubSource(repo="own/one", file="tiny.Q4.gguf"),),
    )
    with pytest.raises(DownloadError, match="not the file that the catalog knows"):
        fetch_entry(entry, on_progress=lambda _: None, cancel=threading.Event())
    assert hub.paths("/resolve/") == []
    assert_nothing_left(models)


def test_token_stays_with_the_hub(
    hub: FakeServer, other: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.gated.add("own/one")
    hub.cdn = other.url
    other.repos = hub.repos
    assert pull("own/one").size_bytes == 200_000
    assert all(headers["authorization"] == "Bearer hf_fake" for _, headers in hub.requests)
    assert len(other.requests) == 1
    assert "authorization" not in other.requests[0][1]


def test_token_follows_a_redirect_within_the_hub(
    hub: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.gated.add("own/one")
    body = hub.repos["own/one"]["tiny.Q4.gguf"]
    monkeypatch.setattr(
        "fake_servers._Handler._resolve",
        lambda self, repo, name: self._answer(307, b"", {"Location": "/cached"}),
    )
    hub.pages["/cached"] = ("file", body)
    assert pull("own/one").path.read_bytes() == body
    assert dict(hub.requests)["/cached"]["authorization"] == "Bearer hf_fake"


def test_gated_without_a_token(hub: FakeServer) -> None:
    hub.gated.add("own/one")
    with pytest.raises(DownloadError, match="is gated and you are not logged in") as caught:
        pull("own/one")
    assert f"{hub.url}/own/one" in caught.value.hint
    assert hub.paths("/resolve/") == []


def test_gated_without_access(hub: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.gated.add("own/one")
    hub.allowed = False
    with pytest.raises(DownloadError, match="your account has no access yet") as caught:
        pull("own/one")
    assert hub.token not in str(caught.value)


def test_missing_repository(hub: FakeServer) -> None:
    with pytest.raises(DownloadError, match=r"own/nothing does not exist .* or it is private"):
        pull("own/nothing")


def test_refused_token(hub: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    with pytest.raises(DownloadError, match="does not accept the token") as caught:
        pull("own/nothing")
    assert "hf_old" not in str(caught.value)


def test_unreadable_listing(hub: FakeServer) -> None:
    hub.pages["/api/models/own/one/revision/main"] = ("application/json", b'{"siblings": 3}')
    with pytest.raises(DownloadError, match="cannot be read"):
        pull("own/one")


def test_listing_cannot_name_files_outside_the_folder(hub: FakeServer, models: Path) -> None:
    files = hub.repos["own/folder"]
    files["model.safetensors.index.json"] = b'{"weight_map": {"a": "../../evil.safetensors"}}'
    files["../../evil.safetensors"] = b"evil"
    with pytest.raises(DownloadError, match="lacks a file that its index names"):
        pull("own/folder")
    assert_nothing_left(models)


@pytest.mark.parametrize("name", ["..\\evil.gguf", "C:evil.gguf", "a\x1b[2Jb.gguf", "a\nb.gguf"])
def test_names_that_no_file_should_have_are_left_out(hub: FakeServer, name: str) -> None:
    hub.repos["own/odd"] = {name: gguf(1000)}
    with pytest.raises(DownloadError, match="holds neither") as caught:
        pull("own/odd")
    assert str(caught.value).isprintable()
    hub.repos["own/odd"]["a.gguf"] = gguf(1000)
    assert pull("own/odd").path.name == "a.gguf"


def test_offline_mode_asks_nobody(hub: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        pull("own/one")
    assert hub.requests == []


def test_full_disk_is_told_before_the_download(
    hub: FakeServer, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("quantchat.hub.incoming.shutil.disk_usage", lambda _: Usage)
    with pytest.raises(
        DownloadError, match=r"not enough room .*[KMG]iB needed, 1000 B free"
    ) as caught:
        pull("own/one")
    assert "QUANTCHAT_HOME" in caught.value.hint
    assert hub.paths("/resolve/") == []
    assert_nothing_left(models)


def test_closed_port_fails_at_once(monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="refused the connection") as caught:
        pull("own/one")
    assert "HF_ENDPOINT" in caught.value.hint
    assert_nothing_left(models)


def test_name_service_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release, hangs = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        hangs.set()
        release.wait(60)
        hangs.clear()
        return []

    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr("quantchat.hub.http.CONNECT_S", 0.3)
    monkeypatch.setattr("socket.getaddrinfo", hang)
    try:
        with pytest.raises(DownloadError, match="could not be reached"):
            pull("own/one")
        assert hangs.is_set(), "it was not waited for"
    finally:
        release.set()


@pytest.mark.parametrize("fault", ["slow", "silent"])
def test_cancel_is_prompt_and_leaves_no_model(hub: FakeServer, models: Path, fault: str) -> None:
    hub.faults.slow_s = 0.05
    hub.faults.silent = fault == "silent"
    cancel = threading.Event()
    seen: list[FetchProgress] = []

    def look(progress: FetchProgress) -> None:
        seen.append(progress)
        if progress.done_bytes:
            cancel.set()

    if fault == "silent":
        threading.Timer(0.5, cancel.set).start()
    with pytest.raises(Cancelled):
        fetch("own/one", on_progress=look, cancel=cancel)
    if fault == "slow":
        assert 0 < seen[-1].done_bytes < seen[-1].total_bytes
        assert [each.name for each in unfinished()] == ["own/one"]
    else:
        assert_nothing_left(models)
    assert list_local() == []
