"""Models from the Hugging Face hub: listing, choice of files, downloads.

Owns the hub's addresses, answers and refusals in words. Follows HF_ENDPOINT, HF_TOKEN (or the
log-in of `hf auth login`) and HF_HUB_OFFLINE. The token goes to the endpoint alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

from quantchat.hub.catalog import CatalogEntry, HubSource
from quantchat.hub.download import Digest, Remote, download
from quantchat.hub.http import SourceError, get_bytes, parse_json
from quantchat.hub.incoming import Staging, check_space
from quantchat.hub.manifest import Manifest, StoredFile
from quantchat.hub.progress import Meter

_LISTING_BYTES = 32 << 20
_INDEX_BYTES = 32 << 20
_FILES_MAX = 1000
_FILE_BYTES = 1 << 40
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})
_SIDE_FILES = (
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
_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    path: str
    size_bytes: int
    digest: Digest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    repo: str
    revision: str
    gated: bool
    files: Mapping[str, _Listed]


class _Hub:
    """The hub of this environment, for one fetch."""

    def __init__(self, cancel: threading.Event) -> None:
        self.cancel = cancel
        self.endpoint = endpoint()
        self.host = urlsplit(self.endpoint).hostname or self.endpoint
        self.token = _token()

    @property
    def authorization(self) -> str | None:
        return f"Bearer {self.token}" if self.token else None

    def listing(self, repo: str, revision: str) -> _Listing:
        url = f"{self.endpoint}/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true"
        status, headers, body, _ = get_bytes(
            url, cancel=self.cancel, limit_bytes=_LISTING_BYTES, authorization=self.authorization
        )
        if status != 200:
            raise self.refusal(repo, status, headers)
        return _read_listing(repo, parse_json(body, self.host), self.host)

    def remote(self, listing: _Listing, file: _Listed, *, limit_bytes: int = _FILE_BYTES) -> Remote:
        path = quote(file.path)
        return Remote(
            url=f"{self.endpoint}/{listing.repo}/resolve/{quote(listing.revision)}/{path}",
            name=file.path,
            size_bytes=file.size_bytes,
            limit_bytes=limit_bytes,
            digest=file.digest,
            authorization=self.authorization,
        )

    def refusal(self, repo: str, status: int, headers: Message | None = None) -> SourceError:
        """A refused request in words; gated, private and missing repositories read apart."""
        code = headers.get("X-Error-Code", "") if headers is not None else ""
        if code == "GatedRepo" or (status == 403 and code != "RepoNotFound"):
            return self.gated(repo)
        if code == "RevisionNotFound":
            return SourceError(f"{repo} has no such revision on {self.host}", status=status)
        if status == 401 and self.token:
            return SourceError(
                f"{self.host} does not accept the token, or {repo} is private or does not exist",
                hint="run `hf auth login` again, or unset HF_TOKEN",
                status=status,
            )
        if status in (401, 404) or code == "RepoNotFound":
            return SourceError(
                f"{repo} does not exist on {self.host}, or it is private",
                hint="check the spelling; for a private one set HF_TOKEN or run `hf auth login`",
                status=status,
            )
        if status == 429:
            return SourceError(f"{self.host} asks to slow down; try again later", status=status)
        return SourceError(f"{self.host} answered {status} for {repo}", status=status)

    def gated(self, repo: str) -> SourceError:
        page = f"{self.endpoint}/{repo}"
        if not self.token:
            return SourceError(
                f"{repo} is gated and you are not logged in",
                hint=f"accept its licence at {page}, then run `hf auth login` or set HF_TOKEN",
                status=401,
            )
        return SourceError(
            f"{repo} is gated and your account has no access yet",
            hint=f"accept its licence at {page}, or wait for the owner's approval",
            status=403,
        )


def endpoint() -> str:
    """The hub's address without a trailing slash."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or str(constants.ENDPOINT)).rstrip("/")


def label() -> str:
    """The source in words."""
    return f"Hugging Face hub ({urlsplit(endpoint()).hostname})"


def fetch_from_hub(
    source: HubSource,
    entry: CatalogEntry,
    stage: Staging,
    *,
    meter: Meter,
    cancel: threading.Event,
) -> Manifest:
    """Put the model's files into the staging folder. Raises Cancelled, DownloadError."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE:
        raise SourceError("HF_HUB_OFFLINE is set", hint="unset HF_HUB_OFFLINE to use the hub")
    hub = _Hub(cancel)
    meter.step("asking for the list of files")
    listing = hub.listing(source.repo, source.revision)
    if listing.gated and not hub.token:
        raise hub.gated(source.repo)
    files = _choose(hub, listing, source, entry, stage, meter)
    total_bytes = sum(file.size_bytes for file in files)
    check_space(total_bytes)
    meter.total_bytes = total_bytes
    meter.set_done(0)
    stored = []
    for file in files:
        name = PurePosixPath(file.path).name
        meter.step(name)
        digest = _get(hub, listing, file, stage.payload / name, meter)
        stored.append(StoredFile(name=name, size_bytes=file.size_bytes, digest=digest))
    return Manifest(
        name=entry.alias,
        repo=entry.repo,
        file=entry.file,
        revision=listing.revision,
        source=f"{hub.endpoint}/{source.repo}",
        container="gguf" if files[0].path.endswith(".gguf") else "safetensors",
        files=tuple(stored),
    )


def _get(hub: _Hub, listing: _Listing, file: _Listed, target: Path, meter: Meter) -> str:
    try:
        return download(hub.remote(listing, file), target, meter=meter, cancel=hub.cancel)
    except SourceError as error:
        if error.status in (401, 403):
            raise (
                hub.gated(listing.repo)
                if listing.gated
                else hub.refusal(listing.repo, error.status)
            ) from error
        raise


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def _read_listing(repo: str, data: Any, host: str) -> _Listing:
    try:
        siblings = data["siblings"]
        revision = data["sha"]
        gated = data.get("gated", False)
        if not isinstance(siblings, list) or not isinstance(revision, str):
            raise TypeError
        files = {}
        for item in siblings:
            path, size, lfs = item["rfilename"], item.get("size"), item.get("lfs")
            if not isinstance(path, str) or not isinstance(size, int) or size < 0:
                continue
            digest = None
            if isinstance(lfs, dict):
                digest = Digest(kind="sha256", value=str(lfs["sha256"]))
            elif isinstance(item.get("blobId"), str):
                digest = Digest(kind="git", value=item["blobId"])
            files[path] = _Listed(path=path, size_bytes=size, digest=digest)
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{host} answered with a list of files that cannot be read") from error
    return _Listing(repo=repo, revision=revision, gated=bool(gated), files=files)


def _choose(
    hub: _Hub,
    listing: _Listing,
    source: HubSource,
    entry: CatalogEntry,
    stage: Staging,
    meter: Meter,
) -> list[_Listed]:
    """The files to get: one GGUF, or config, tokenizer and weights."""
    if source.file is not None:
        return [_one_file(listing, source.file, entry)]
    if "config.json" in listing.files:
        weights = _weights(hub, listing, stage, meter)
        if weights:
            side = [listing.files[name] for name in _SIDE_FILES if name in listing.files]
            return side + weights
    found = sorted(path for path in listing.files if path.endswith(".gguf"))
    if len(found) == 1:
        return [listing.files[found[0]]]
    if found:
        some = ", ".join(found[:8]) + (" …" if len(found) > 8 else "")
        raise SourceError(
            f"{listing.repo} holds {len(found)} GGUF files: {some}",
            hint=f"name one: quantchat pull {listing.repo}:{found[0]}",
        )
    raise SourceError(f"{listing.repo} holds neither safetensors with a config nor a GGUF file")


def _one_file(listing: _Listing, name: str, entry: CatalogEntry) -> _Listed:
    if name not in listing.files:
        found = sorted(path for path in listing.files if path.endswith(".gguf"))
        raise SourceError(
            f"{listing.repo} holds no {name}",
            hint=f"it holds {', '.join(found[:8]) or 'no GGUF file'}",
        )
    file = listing.files[name]
    if entry.sha256 is None:
        return file
    if file.digest is not None and file.digest.kind == "sha256":
        if file.digest.value != entry.sha256 or file.size_bytes != entry.size_bytes:
            raise SourceError(f"{name} on the hub is not the file that the catalog knows")
        return file
    return _Listed(
        path=file.path,
        size_bytes=entry.size_bytes,
        digest=Digest(kind="sha256", value=entry.sha256),
    )


def _weights(hub: _Hub, listing: _Listing, stage: Staging, meter: Meter) -> list[_Listed]:
    if _WHOLE in listing.files:
        return [listing.files[_WHOLE]]
    index = listing.files.get(_INDEX)
    if index is None:
        alone = [
            path
            for path in listing.files
            if path.endswith(".safetensors") and "/" not in path and "consolidated" not in path
        ]
        return [listing.files[alone[0]]] if len(alone) == 1 else []
    target = stage.work / _INDEX
    if index.size_bytes > _INDEX_BYTES:
        raise SourceError(f"{_INDEX} of {listing.repo} is longer than is sensible")
    _get(hub, listing, index, target, meter)
    data = parse_json(target.read_bytes(), hub.host)
    shards = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise SourceError(f"{_INDEX} of {listing.repo} names no files")
    names = sorted(set(shards.values()))
    missing = [name for name in names if name not in listing.files or "/" in name]
    if missing or not names or len(names) > _FILES_MAX:
        raise SourceError(f"{listing.repo} lacks a file that its index names: {missing[:1]}")
    return [index, *(listing.files[name] for name in names)]
