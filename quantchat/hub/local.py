"""Models on disk: our downloads, the Hugging Face cache, and any file or folder by its path.

Owns how a name becomes a path, and the removal of downloads. Needs no network and stays quick:
folders are listed and small records read, no weights.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from quantchat import paths
from quantchat.errors import ModelNotFoundError, UsageError
from quantchat.hub import hf_cache
from quantchat.hub.catalog import CATALOG, CatalogEntry, entry_of
from quantchat.hub.incoming import discard
from quantchat.hub.manifest import Container, Manifest, read_manifest
from quantchat.hub.names import entry_for
from quantchat.hub.splits import split_parts, without_later_parts

Origin: TypeAlias = Literal["download", "file", "folder", "hf-cache"]

_GGUF_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model that can be loaded now."""

    name: str
    """What a user types to get it."""
    path: Path
    """The GGUF file, or the folder with config and safetensors."""
    container: Container
    size_bytes: int
    origin: Origin


def list_local() -> list[LocalModel]:
    """Our downloads first, then what other programs left in the Hugging Face cache."""
    models = [_downloaded(folder, manifest) for folder, manifest in _downloads()]
    seen = {model.name for model in models}
    cached = [_cached(model) for model in hf_cache.scan()]
    return models + [model for model in cached if model.name not in seen]


def resolve(name: str) -> LocalModel:
    """The model that a name means: alias, path, repository, `repository:file.gguf` or address.

    Raises ModelNotFoundError with what to do.
    """
    text = name.strip()
    if not text:
        raise ModelNotFoundError("no model is named", hint="`quantchat models` lists them")
    entry = entry_for(text)
    if text not in CATALOG:
        try:
            by_path = _from_path(text)
        except ModelNotFoundError:
            # A folder that only happens to be called like a repository says nothing.
            if entry is None:
                raise
            by_path = None
        if by_path is not None:
            return by_path
    if entry is None:
        raise _unknown(text)
    for folder, manifest in _downloads():
        if _answers(manifest, entry):
            return _downloaded(folder, manifest)
    for model in hf_cache.scan():
        if model.repo.lower() == entry.repo.lower() and model.file == entry.file:
            # A file that the catalog pins must at least have its length.
            if entry.sha256 is not None and model.size_bytes != entry.size_bytes:
                continue
            return _cached(model)
    raise ModelNotFoundError(
        f"{text} is not on disk", hint=f"download it with `quantchat pull {text}`"
    )


def find(name: str) -> LocalModel | None:
    """As resolve, but None for a name whose model is not on disk."""
    try:
        return resolve(name)
    except ModelNotFoundError:
        return None


def remove(name: str) -> int:
    """Delete a download and return the bytes freed. Refuses what quantchat did not download."""
    model = resolve(name)
    folder = model.path if model.container == "safetensors" else model.path.parent
    ours = folder.resolve().parent == paths.models_dir().resolve() and not folder.is_symlink()
    if model.origin != "download" or not ours:
        raise UsageError(
            f"{name} was not downloaded by quantchat; it is left alone",
            hint=f"delete {model.path} yourself if you want it gone",
        )
    freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    discard(folder)
    return freed


def _downloads() -> Iterator[tuple[Path, Manifest]]:
    """Every whole download."""
    for folder in sorted(paths.models_dir().iterdir()):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        manifest = read_manifest(folder)
        if manifest is not None and manifest.is_complete(folder):
            yield folder, manifest


def _answers(manifest: Manifest, entry: CatalogEntry) -> bool:
    if manifest.repo.lower() != entry.repo.lower():
        return False
    if manifest.file == entry.file:
        return True
    # A repository with one GGUF may be asked for with or without the file's name.
    if manifest.file is None and manifest.container == "gguf" and entry.file is not None:
        return Path(entry.file).name == manifest.files[0].name
    return False


def _downloaded(folder: Path, manifest: Manifest) -> LocalModel:
    known = entry_of(manifest.repo, manifest.file)
    return LocalModel(
        name=known.alias if known is not None else manifest.name,
        path=manifest.model_path(folder),
        container=manifest.container,
        size_bytes=manifest.size_bytes,
        origin="download",
    )


def _cached(model: hf_cache.CachedModel) -> LocalModel:
    known = entry_of(model.repo, model.file)
    plain = f"{model.repo}:{model.file}" if model.file else model.repo
    return LocalModel(
        name=known.alias if known is not None else plain,
        path=model.path,
        container=model.container,
        size_bytes=model.size_bytes,
        origin="hf-cache",
    )


def _from_path(text: str) -> LocalModel | None:
    path = paths.expanded(text)
    try:
        if path.is_file():
            return _from_file(text, path.absolute())
        if path.is_dir():
            return _from_folder(text, path.absolute())
    except (OSError, ValueError):
        return None
    looks_like_path = text.startswith(("/", "./", "../", "~", ".\\", "\\")) or (
        text.endswith((".gguf", ".safetensors")) and ":" not in text
    )
    if looks_like_path:
        raise ModelNotFoundError(f"there is no file or folder {text}", hint="check the path")
    return None


def _from_file(text: str, path: Path) -> LocalModel:
    if path.suffix == ".safetensors" and (path.parent / "config.json").is_file():
        return _from_folder(text, path.parent)
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != _GGUF_MAGIC:
        raise ModelNotFoundError(
            f"{text} is not a GGUF file", hint="name a .gguf file or a folder with safetensors"
        )
    parts = [path.with_name(name) for name in split_parts(path.name)] or [path]
    missing = next((part for part in parts if not part.is_file()), None)
    if missing is not None:
        raise ModelNotFoundError(
            f"{text} is one of {len(parts)} parts of a model, and {missing.name} is not beside it",
            hint="put all parts into one folder",
        )
    return LocalModel(
        name=text,
        path=parts[0],
        container="gguf",
        size_bytes=sum(part.stat().st_size for part in parts),
        origin="file",
    )


def _from_folder(text: str, folder: Path) -> LocalModel:
    manifest = read_manifest(folder)
    if manifest is not None and manifest.is_complete(folder):
        return _downloaded(folder, manifest)
    if (folder / "config.json").is_file() and hf_cache.has_weights(folder):
        return LocalModel(
            name=text,
            path=folder,
            container="safetensors",
            size_bytes=hf_cache.folder_size(folder),
            origin="folder",
        )
    files = [folder / name for name in _gguf_names(folder)]
    if len(files) == 1:
        return _from_file(text, files[0])
    if files:
        raise ModelNotFoundError(
            f"{text} holds {len(files)} GGUF files", hint=f"name one, such as {files[0]}"
        )
    raise ModelNotFoundError(
        f"{text} holds neither a GGUF file nor config.json with all its safetensors",
        hint="an unfinished download? fetch it again",
    )


def _gguf_names(folder: Path) -> list[str]:
    """The GGUF models of a folder, a split one by its first part."""
    return without_later_parts(path.name for path in folder.glob("*.gguf"))


def _unknown(text: str) -> ModelNotFoundError:
    close = difflib.get_close_matches(text.lower(), list(CATALOG), n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return ModelNotFoundError(
        f"no model is called {text!r}",
        hint=hint + "`quantchat models` lists them; owner/name of the hub or a path work too",
    )
