"""Names, paths, the cache of other programs, and removal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from quantchat.errors import ModelNotFoundError, UsageError
from quantchat.hub.catalog import CATALOG, STARTER, WheelSource
from quantchat.hub.local import list_local, remove, resolve
from quantchat.hub.manifest import Manifest, StoredFile, read_manifest, write_manifest
from quantchat.hub.names import HubName, entry_for, folder_name, parse_hub_name


def put_download(
    models: Path, folder: str, repo: str, file: str | None, body: bytes = b"GGUF rest"
) -> Path:
    """A finished download of one GGUF file."""
    place = models / folder
    place.mkdir(parents=True)
    name = file or "only.gguf"
    (place / name).write_bytes(body)
    stored = StoredFile(name=name, size_bytes=len(body), digest="sha256:00")
    manifest = Manifest(
        name=f"{repo}:{file}" if file else repo,
        repo=repo,
        file=file,
        revision="main",
        source="test",
        container="gguf",
        files=(stored,),
    )
    write_manifest(place, manifest)
    return place / name


def put_cached(root: Path, repo: str, files: dict[str, bytes], *, broken: str = "") -> Path:
    """A repository in the Hugging Face cache: links into blobs, as that library writes them."""
    folder = root / f"models--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    for number, (name, body) in enumerate(files.items()):
        blob = folder / "blobs" / str(number)
        if name != broken:
            blob.write_bytes(body)
        (snapshot / name).symlink_to(blob)
    return snapshot


CHAT = {
    "config.json": json.dumps({"architectures": ["Qwen3ForCausalLM"]}).encode(),
    "model.safetensors": b"w" * 64,
}


@pytest.mark.parametrize(
    ("text", "repo", "file"),
    [
        ("own/name", "own/name", None),
        ("own/name:a-b.Q4_K.gguf", "own/name", "a-b.Q4_K.gguf"),
        ("own/name:sub/a.gguf", "own/name", "sub/a.gguf"),
        ("https://huggingface.co/own/name", "own/name", None),
        ("https://huggingface.co/own/name/tree/main", "own/name", None),
        ("hf.co/own/name", "own/name", None),
        (
            "https://huggingface.co/own/name/resolve/main/sub/a%20b.gguf?download=true",
            "own/name",
            "sub/a b.gguf",
        ),
        ("https://huggingface.co/own/name/blob/main/a.gguf#L1", "own/name", "a.gguf"),
    ],
)
def test_hub_names(text: str, repo: str, file: str | None) -> None:
    assert parse_hub_name(text) == HubName(repo=repo, file=file)


@pytest.mark.parametrize(
    "text",
    [
        "http://[",
        "https://[::1",
        "https://\u2100/a/b",
        "name",
        "a/b/c",
        "own/../name",
        "own/..",
        "own/name:../evil.gguf",
        "own/name:/etc/passwd",
        "own/name:a.bin",
        "own/name:a/../../b.gguf",
        "https://elsewhere.example/own/name",
        "https://huggingface.co/own",
        "https://huggingface.co/datasets/own/name",
        "hf.co/spaces/own/name",
        "own/na me",
        "",
        "-own/name",
    ],
)
def test_other_words_are_no_hub_names(text: str) -> None:
    assert parse_hub_name(text) is None


def test_catalog_is_sound() -> None:
    assert next(iter(CATALOG)) == STARTER
    for alias, entry in CATALOG.items():
        assert alias == entry.alias
        assert entry_for(alias) is entry
        name = f"{entry.repo}:{entry.file}" if entry.file else entry.repo
        assert entry_for(name) is entry
        assert "/" not in folder_name(entry)
        assert entry.sources and entry.parameters and entry.license and entry.context_tokens
        if any(isinstance(source, WheelSource) for source in entry.sources):
            assert entry.sha256 is not None and len(entry.sha256) == 64
    folders = [folder_name(entry) for entry in CATALOG.values()]
    assert len(set(folders)) == len(folders)


def test_alias_and_repository_mean_the_same(models: Path) -> None:
    entry = CATALOG[STARTER]
    path = put_download(models, "starter", entry.repo, entry.file)
    for name in (STARTER, f"{entry.repo}:{entry.file}", f" {STARTER} "):
        assert resolve(name).path == path
        assert resolve(name).name == STARTER
    assert [model.name for model in list_local()] == [STARTER]


def test_folder_name_does_not_matter(models: Path) -> None:
    path = put_download(models, "renamed", "own/name", "a.gguf")
    assert resolve("own/name:a.gguf").path == path


def test_incomplete_download_is_not_there(models: Path) -> None:
    path = put_download(models, "starter", CATALOG[STARTER].repo, CATALOG[STARTER].file)
    path.write_bytes(b"GG")
    assert list_local() == []
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(STARTER)
    assert "quantchat pull starter" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 100_000,
        "{}",
        '{"format": 1}',
        '{"format": 1, "name": 3, "files": []}',
        '{"format": 1, "name": "a", "repo": "a", "revision": "", "source": "", '
        '"container": "gguf", "files": [{"name": "../x", "size_bytes": 1, "digest": ""}]}',
    ],
)
def test_damaged_record_is_passed_over(models: Path, text: str) -> None:
    path = put_download(models, "one", "own/name", "a.gguf")
    (path.parent / "quantchat-model.json").write_text(text)
    assert read_manifest(path.parent) is None
    assert list_local() == []


def test_file_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF1234")
    monkeypatch.chdir(tmp_path)
    for name in (str(path), "a.gguf", "./a.gguf"):
        model = resolve(name)
        assert (model.path, model.container, model.origin) == (path, "gguf", "file")
        assert model.size_bytes == 8
    path.write_bytes(b"PK\3\4")
    with pytest.raises(ModelNotFoundError, match="not a GGUF file"):
        resolve("a.gguf")
    with pytest.raises(ModelNotFoundError, match="there is no file or folder"):
        resolve("./b.gguf")


def test_folder_by_path(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ModelNotFoundError, match="neither a GGUF file nor"):
        resolve(str(folder))
    for name, body in CHAT.items():
        (folder / name).write_bytes(body)
    model = resolve(str(folder))
    assert (model.path, model.container, model.origin) == (folder, "safetensors", "folder")
    assert resolve(str(folder / "model.safetensors")).path == folder
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelNotFoundError, match="all its safetensors"):
        resolve(str(folder))


def test_folder_named_like_a_repository_does_not_hide_it(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work/own/name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    path = put_download(models, "one", "own/name", None)
    assert resolve("own/name").path == path


def test_cache_of_other_programs(tmp_path: Path) -> None:
    root = tmp_path / "hf-cache"
    chat = put_cached(root, "own/chat", CHAT)
    put_cached(root, "own/half", CHAT, broken="model.safetensors")
    bert = json.dumps({"architectures": ["BertModel"]}).encode()
    put_cached(root, "own/bert", {**CHAT, "config.json": bert})
    gguf = put_cached(root, "own/gguf", {"a.gguf": b"GGUF", "b.gguf": b"GGUF"}, broken="b.gguf")
    assert {(model.name, model.path, model.container) for model in list_local()} == {
        ("own/chat", chat, "safetensors"),
        ("own/gguf:a.gguf", gguf / "a.gguf", "gguf"),
    }
    assert resolve("own/chat").origin == "hf-cache"
    assert resolve("own/chat").size_bytes == sum(len(body) for body in CHAT.values())
    for name in ("own/chat", "own/gguf:a.gguf"):
        with pytest.raises(UsageError, match="left alone"):
            remove(name)
    assert (chat / "model.safetensors").is_file()


def test_pinned_file_of_another_length_is_not_taken(tmp_path: Path) -> None:
    entry = CATALOG[STARTER]
    assert entry.file is not None
    put_cached(tmp_path / "hf-cache", entry.repo, {entry.file: b"GGUF but short"})
    with pytest.raises(ModelNotFoundError):
        resolve(STARTER)


def test_remove_frees_what_it_says(models: Path) -> None:
    path = put_download(models, "one", "own/name", "a.gguf", b"GGUF" + b"x" * 996)
    record = (path.parent / "quantchat-model.json").stat().st_size
    assert remove("own/name:a.gguf") == 1000 + record
    assert not path.parent.exists()
    assert list((models / ".incoming").iterdir()) == []
    with pytest.raises(ModelNotFoundError):
        remove("own/name:a.gguf")


def test_remove_leaves_files_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(UsageError, match="left alone"):
        remove(str(path))
    copied = put_download(tmp_path / "elsewhere", "one", "own/name", "a.gguf")
    with pytest.raises(UsageError, match="left alone"):
        remove(str(copied.parent))
    assert path.exists() and copied.exists()


@pytest.mark.parametrize(("word", "meant"), [("strater", "starter"), ("QWEN3-4B", "qwen3-4b")])
def test_unknown_word_gets_a_proposal(word: str, meant: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(word)
    assert f"did you mean {meant}?" in caught.value.hint


def test_looking_imports_nothing_heavy(models: Path) -> None:
    put_download(models, "one", "own/name", "a.gguf")
    code = (
        "import sys; from quantchat.hub.local import list_local; assert list_local(); "
        "import quantchat.hub.fetch; "
        "print([m for m in ('torch', 'huggingface_hub', 'rich', 'textual') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
