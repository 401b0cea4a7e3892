"""Models that other programs keep in the Hugging Face cache: found and read, never changed.

Owns the cache's folder rules (HF_HUB_CACHE, HF_HOME), what counts as a whole chat model there, and
the copying of single files that a download would fetch again.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quantchat.errors import Cancelled
from quantchat.hub.manifest import Container
from quantchat.hub.part import Digest, Part
from quantchat.hub.progress import Counter
from quantchat.hub.splits import split_parts, without_later_parts
from quantchat.paths import expanded

_COPY_BYTES = 1 << 20
_CHAT_ENDINGS = ("ForCausalLM", "Gemma3ForConditionalGeneration")
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
            return expanded(os.environ[variable])
    home = os.environ.get("HF_HOME")
    if home:
        return expanded(home) / "hub"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(base) / "huggingface" / "hub"


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
        # A link whose blob is gone is an unfinished download.
        found = (path for path in snapshot.rglob("*.gguf") if path.is_file())
        for name in without_later_parts(path.relative_to(snapshot).as_posix() for path in found):
            parts = split_parts(name) or (name,)
            yield CachedModel(
                repo=repo,
                file=name,
                path=snapshot / name,
                container="gguf",
                size_bytes=sum((snapshot / part).stat().st_size for part in parts),
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


def find_blob(repo: str, etag: str, size_bytes: int) -> Path | None:
    """A whole file of a repository that another program fetched, by its ETag on the hub."""
    if not etag.isalnum():
        return None
    blob = cache_root() / f"models--{repo.replace('/', '--')}" / "blobs" / etag
    try:
        return blob if blob.is_file() and blob.stat().st_size == size_bytes else None
    except OSError:
        return None


def copy_blob(
    blob: Path,
    target: Path,
    *,
    work: Path,
    size_bytes: int,
    digest: Digest,
    counter: Counter,
    cancel: threading.Event,
) -> bool:
    """Copy a cached file to `target`, checked on the way; False when it is not what it claims."""
    base_bytes = counter.done_bytes
    try:
        with (
            blob.open("rb") as source,
            Part(work, target.name, size_bytes=size_bytes, digest=digest) as part,
        ):
            part.reset()
            while chunk := source.read(_COPY_BYTES):
                if cancel.is_set():
                    raise Cancelled("the download was stopped")
                part.append(chunk)
                counter.keep(len(chunk))
            if part.found() == digest:
                part.move_to(target)
                return True
            part.delete()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
    counter.set_done(base_bytes)
    return False


def is_chat_folder(folder: Path) -> bool:
    """Whether a folder holds the config and all weights of a causal language model."""
    config = _read_json(folder / "config.json", _CONFIG_BYTES)
    names = config.get("architectures")
    if not isinstance(names, list) or not any(str(n).endswith(_CHAT_ENDINGS) for n in names):
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
