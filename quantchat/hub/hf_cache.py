"""Models that other programs keep in the Hugging Face cache: found and read, never changed.

Owns the cache's folder rules (HF_HUB_CACHE, HF_HOME) and what counts as a whole chat model there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quantchat.hub.manifest import Container

_CONFIG_BYTES = 1 << 20
_INDEX_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedModel:
    """A whole model in the cache."""

    repo: str
    file: str | None
    path: Path
    container: Container
    size_bytes: int


def cache_root() -> Path:
    """Where the Hugging Face libraries keep repositories."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "huggingface" / "hub"


def scan() -> list[CachedModel]:
    """Every whole GGUF file and causal language model folder in the cache."""
    try:
        folders = sorted(cache_root().glob("models--*--*"))
    except OSError:
        return []
    return [model for folder in folders for model in _in_repo(folder)]


def _in_repo(folder: Path) -> Iterator[CachedModel]:
    repo = folder.name.removeprefix("models--").replace("--", "/", 1)
    snapshot = _snapshot(folder)
    if snapshot is None:
        return
    try:
        if is_chat_folder(snapshot):
            yield CachedModel(
                repo=repo,
                file=None,
                path=snapshot,
                container="safetensors",
                size_bytes=folder_size(snapshot),
            )
        for path in sorted(snapshot.rglob("*.gguf")):
            # A link whose blob is gone is an unfinished download.
            if path.is_file():
                yield CachedModel(
                    repo=repo,
                    file=path.relative_to(snapshot).as_posix(),
                    path=path,
                    container="gguf",
                    size_bytes=path.stat().st_size,
                )
    except OSError:
        return


def _snapshot(folder: Path) -> Path | None:
    try:
        main = folder / "refs" / "main"
        if main.is_file():
            snapshot = folder / "snapshots" / main.read_text(encoding="ascii").strip()[:64]
            if snapshot.is_dir():
                return snapshot
        found = [path for path in (folder / "snapshots").iterdir() if path.is_dir()]
        return max(found, key=lambda path: path.stat().st_mtime, default=None)
    except (OSError, UnicodeDecodeError):
        return None


def is_chat_folder(folder: Path) -> bool:
    """Whether a folder holds the config and all weights of a causal language model."""
    config = _read_json(folder / "config.json", _CONFIG_BYTES)
    names = config.get("architectures")
    if not isinstance(names, list) or not any(str(n).endswith("ForCausalLM") for n in names):
        return False
    return has_weights(folder)


def has_weights(folder: Path) -> bool:
    """Whether all safetensors files are there: the one, or all that the index names."""
    if (folder / "model.safetensors").is_file():
        return True
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = _read_json(index, _INDEX_BYTES).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            return False
        names = {str(name) for name in shards.values()}
        return all(Path(name).name == name and (folder / name).is_file() for name in names)
    return any(path.is_file() for path in folder.glob("*.safetensors"))


def folder_size(folder: Path) -> int:
    """Bytes of the files in a folder, links followed, subfolders left out."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _read_json(path: Path, limit_bytes: int) -> dict[str, object]:
    try:
        if path.stat().st_size > limit_bytes:
            return {}
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
