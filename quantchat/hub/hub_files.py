"""Which files of a hub repository make a model: one GGUF or its parts, or the safetensors folder.

Owns the choice alone; `read_index` is the caller's way to the names in a shard index.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from quantchat.hub.catalog import CatalogEntry, HubSource
from quantchat.hub.http import SourceError
from quantchat.hub.hub_api import Listed, Listing
from quantchat.hub.part import Digest
from quantchat.hub.splits import first_part, split_parts, without_later_parts

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
_INDEX_BYTES = 32 << 20
_FILES_MAX = 1000
SIDE_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "quantize_config.json",
    "quant_config.json",
)


def choose(
    listing: Listing,
    source: HubSource,
    entry: CatalogEntry,
    read_index: Callable[[Listed], bytes],
) -> list[Listed]:
    """The files to get, the one that stands for the model first where it is a GGUF."""
    if source.file is not None:
        return _named(listing, source.file, entry)
    if "config.json" in listing.files:
        weights = _weights(listing, read_index)
        if weights:
            return [*side_files(listing), *weights]
    found = gguf_files(listing)
    if len(found) == 1:
        return _named(listing, found[0], entry)
    if found:
        some = ", ".join(found[:8]) + (" …" if len(found) > 8 else "")
        raise SourceError(
            f"{listing.repo} holds {len(found)} GGUF files: {some}",
            hint=f"name one: quantchat pull {listing.repo}:{found[0]}",
        )
    raise SourceError(f"{listing.repo} holds neither safetensors with a config nor a GGUF file")


def gguf_files(listing: Listing) -> list[str]:
    """The GGUF models of a repository, a split one by its first part."""
    return without_later_parts(path for path in listing.files if path.endswith(".gguf"))


def side_files(listing: Listing) -> list[Listed]:
    """Config, tokenizer and template, as far as they are there."""
    return [listing.files[name] for name in SIDE_FILES if name in listing.files]


def lone_weights(listing: Listing) -> Listed | None:
    """The one safetensors file of a model that needs no index."""
    if WHOLE in listing.files:
        return listing.files[WHOLE]
    alone = [
        path
        for path in listing.files
        if path.endswith(".safetensors") and "/" not in path and "consolidated" not in path
    ]
    return listing.files[alone[0]] if len(alone) == 1 else None


def _named(listing: Listing, name: str, entry: CatalogEntry) -> list[Listed]:
    parts = split_parts(name) or (name,)
    missing = [part for part in parts if part not in listing.files]
    if missing:
        found = gguf_files(listing)
        raise SourceError(
            f"{listing.repo} holds no {missing[0]}",
            hint=f"it holds {', '.join(found[:8]) or 'no GGUF file'}",
        )
    assert first_part(name) == parts[0]
    if len(parts) > 1:
        return [listing.files[part] for part in parts]
    return [_pinned(listing.files[name], entry)]


def _pinned(file: Listed, entry: CatalogEntry) -> Listed:
    if entry.sha256 is None:
        return file
    pin = Digest(kind="sha256", value=entry.sha256)
    if file.digest is not None and file.digest.kind == "sha256":
        if file.digest != pin or file.size_bytes != entry.size_bytes:
            raise SourceError(f"{file.path} on the hub is not the file that the catalog knows")
        return file
    return replace(file, size_bytes=entry.size_bytes, digest=pin)


def _weights(listing: Listing, read_index: Callable[[Listed], bytes]) -> list[Listed]:
    index = listing.files.get(INDEX)
    if WHOLE in listing.files or index is None:
        lone = lone_weights(listing)
        return [lone] if lone is not None else []
    if index.size_bytes > _INDEX_BYTES:
        raise SourceError(f"{INDEX} of {listing.repo} is longer than is sensible")
    try:
        data = json.loads(read_index(index))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{INDEX} of {listing.repo} is not JSON") from error
    shards = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise SourceError(f"{INDEX} of {listing.repo} names no files")
    names = sorted(set(shards.values()))
    missing = [name for name in names if name not in listing.files or "/" in name]
    if missing or not names or len(names) > _FILES_MAX:
        raise SourceError(f"{listing.repo} lacks a file that its index names: {missing[:1]}")
    return [index, *(listing.files[name] for name in names)]
