"""Models looked up on the hub are what the loader finds on disk: shapes, types and sizes."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import factory
import more_gguf
import packed_folders
import pytest
from fake_servers import FakeServer

from quantchat.engine.subjects import Subject, Subjects
from quantchat.errors import Cancelled, CheckpointError, ModelNotFoundError
from quantchat.hub.http import SourceError
from quantchat.model import remote_sibling

_ALL = {**packed_folders.EXACT, **packed_folders.ROUNDED}
LAYOUTS = {
    layout: case
    for layout, case in _ALL.items()
    if layout.startswith(("ct", "bnb")) or layout in ("awq", "gptq v1", "squeezellm", "qserve")
}
"""Those that read small tensors to know shapes, and one each of some others."""


def ask(name: str) -> Subject:
    return Subjects().find(name, threading.Event())


def serve_folder(hub: FakeServer, folder: Path, repo: str = "own/x") -> str:
    hub.repos[repo] = {file.name: file.read_bytes() for file in folder.iterdir()}
    return repo


def check_same(remote: Subject, path: Path) -> None:
    """All but what only a file has."""
    local = Subjects().on_disk(str(path))
    assert local.identity and not remote.identity and local.known == "file"
    assert remote.spec == local.spec
    assert remote.request == local.request


@pytest.mark.parametrize("layout", LAYOUTS)
def test_quantized_folders(hub: FakeServer, tmp_path: Path, layout: str) -> None:
    case = LAYOUTS[layout]
    folder, _ = packed_folders.write_packed(tmp_path, case, shards=2)
    name = serve_folder(hub, folder)
    remote = ask(name)
    assert remote.known == "header" and case.kind in remote.request.stored_types
    check_same(remote, folder)


@pytest.mark.parametrize("family", ["llama3", "qwen3", "gemma3", "qwen3moe", "mixtral"])
def test_plain_folders_need_no_header(hub: FakeServer, tmp_path: Path, family: str) -> None:
    folder = factory.write_hf(tmp_path / "m", family, tokenizer=False, shards=2, dtype="bfloat16")
    config = json.loads((folder / "config.json").read_text())
    config.setdefault("tie_word_embeddings", family == "gemma3")
    (folder / "config.json").write_text(json.dumps(config))
    remote = ask(serve_folder(hub, folder))
    local = Subjects().on_disk(str(folder))
    assert remote.known == "config" and remote.spec == local.spec
    assert remote.request.stored_types == local.request.stored_types == {"BF16"}
    assert remote.request.container == "safetensors"
    size = remote.request.stored_bytes
    assert local.request.stored_bytes <= size < local.request.stored_bytes + 100_000
    assert not hub.paths("-of-00002.safetensors")


def test_a_config_that_does_not_tell_of_the_head_is_completed_by_headers(
    hub: FakeServer, tmp_path: Path
) -> None:
    folder = factory.write_hf(tmp_path / "m", "llama", tokenizer=False, shards=2)
    config = json.loads((folder / "config.json").read_text())
    config.pop("tie_word_embeddings", None)
    (folder / "config.json").write_text(json.dumps(config))
    remote = ask(serve_folder(hub, folder))
    assert remote.known == "header"
    check_same(remote, folder)


@pytest.mark.parametrize(
    ("family", "ranges"), [("llama3", True), ("qwen2", True), ("llama3", False)]
)
def test_gguf_files(hub: FakeServer, tmp_path: Path, family: str, ranges: bool) -> None:
    hub.faults.ignore_range = not ranges
    path = factory.write_gguf(tmp_path / "tiny.Q4_1.gguf", family, tensor_type="Q4_1")
    hub.repos["own/x"] = {path.name: path.read_bytes(), "README.md": b"#"}
    for name in ("own/x", f"own/x:{path.name}"):
        check_same(ask(name), path)


def test_the_second_type_of_a_model_costs_its_tensor_table_alone(
    hub: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LEAST_BYTES": 1000, "SLACK_BYTES": 1024, "PREFIX_BYTES": 4096}.items():
        monkeypatch.setattr(remote_sibling, name, value)
    paths = [
        factory.write_gguf(tmp_path / f"tiny.{kind}.gguf", "llama3", tensor_type=kind)
        for kind in ("Q4_1", "Q8_0", "F16")
    ]
    strange = factory.write_gguf(tmp_path / "other.Q8_0.gguf", "qwen2", tensor_type="Q8_0")
    hub.repos["own/x"] = {path.name: path.read_bytes() for path in (*paths, strange)}
    book = Subjects()
    for at, path in enumerate((*paths, strange)):
        hub.requests.clear()
        check_same(book.find(f"own/x:{path.name}", threading.Event()), path)
        asked = [headers["range"] for _, headers in hub.requests if "range" in headers]
        whole = f"bytes=0-{path.stat().st_size - 1}"
        assert (whole in asked) == (at in (0, 3))


def test_a_split_gguf(hub: FakeServer, tmp_path: Path) -> None:
    first = factory.write_gguf(tmp_path / "tiny.gguf", "llama", part_tensors=6)
    name = serve_folder(hub, first.parent)
    check_same(ask(f"{name}:{first.name}"), first)


def test_a_gguf_of_experts(hub: FakeServer, tmp_path: Path) -> None:
    path = more_gguf.write(tmp_path / "tiny.gguf", "qwen3moe")
    hub.repos["own/x"] = {path.name: path.read_bytes()}
    remote = ask("own/x")
    assert remote.spec.experts is not None
    check_same(remote, path)


def test_what_no_reader_knows_is_said_as_when_it_is_loaded(hub: FakeServer) -> None:
    weights = {"model.safetensors": b"x" * 100}
    hub.repos["own/x"] = {"config.json": b'{"architectures": ["MambaForCausalLM"]}', **weights}
    with pytest.raises(CheckpointError, match="MambaForCausalLM is not supported"):
        ask("own/x")
    hub.repos["own/y"] = {"config.json": b"[1]", **weights}
    with pytest.raises(CheckpointError, match="not a JSON object"):
        ask("own/y")


def test_a_repository_is_asked_once(hub: FakeServer, tmp_path: Path) -> None:
    path = factory.write_gguf(tmp_path / "tiny.gguf", "llama")
    hub.repos["own/x"] = {path.name: path.read_bytes()}
    book = Subjects()
    first = book.find("own/x", threading.Event())
    count = len(hub.requests)
    assert book.find("own/x", threading.Event()) is first and len(hub.requests) == count


def test_gated_missing_and_unknown_names(hub: FakeServer) -> None:
    hub.gated.add("own/folder")
    with pytest.raises(SourceError, match="gated") as gated:
        ask("own/folder")
    assert "licence" in gated.value.hint
    with pytest.raises(SourceError, match="does not exist"):
        ask("own/none")
    with pytest.raises(ModelNotFoundError):
        ask("no such word")


def test_the_catalog_is_known_without_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", "starter"):
        assert ask(name).known == "catalog"
    assert ask("starter").request.stored_types == {"Q4_1"}
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE"):
        ask("own/folder")


def test_a_look_that_is_not_wanted_any_more_ends(hub: FakeServer) -> None:
    hub.faults.silent = True
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    with pytest.raises(Cancelled):
        Subjects().find("own/folder", cancel)


def test_a_file_that_changes_is_looked_at_again(tmp_path: Path) -> None:
    path = factory.write_gguf(tmp_path / "tiny.gguf", "llama")
    book = Subjects()
    before = book.on_disk(str(path))
    assert book.on_disk(str(path)) is before
    factory.write_gguf(path, "llama", tensor_type="Q8_0")
    after = book.on_disk(str(path))
    assert after.request != before.request and after.identity != before.identity
    assert dataclasses.replace(after, request=before.request, identity="") == (
        dataclasses.replace(before, identity="")
    )
