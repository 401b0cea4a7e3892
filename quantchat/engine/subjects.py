"""Models that a plan can be made for before they are loaded: on disk, on the hub, or known by shape.

Owns where a model's shape and types are read, and what is remembered of it. Plans are `hardware`'s.
Torch is imported only where a layout of packed weights must be read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit

from quantchat.engine.read_ahead import plan_request
from quantchat.errors import Cancelled, CheckpointError, ModelNotFoundError
from quantchat.hardware.execution import PlanRequest
from quantchat.hub.catalog import CATALOG, STARTER, CatalogEntry, HubSource
from quantchat.hub.hub_api import Hub, Listing, check_online, endpoint
from quantchat.hub.hub_files import choose
from quantchat.hub.local import LocalModel, resolve
from quantchat.hub.names import entry_for
from quantchat.hub.search import time_limit
from quantchat.hub.splits import split_parts
from quantchat.hub.variants import gguf_type
from quantchat.model.families import ModelSource, open_model
from quantchat.requests import LoadRequest
from quantchat.shapes import SHAPES

if TYPE_CHECKING:
    from quantchat.hub.hub_api import Listed
    from quantchat.hub.remote_header import RemoteRepo
    from quantchat.model.remote_sibling import KnownHead
    from quantchat.spec import DecoderSpec

Known: TypeAlias = Literal["file", "header", "config", "catalog"]

LOOK_S = 60.0
"""For the headers of one model, at most."""
LISTING_S = 300.0
"""A list of files is asked for again after this."""
KEPT = 256
SHAPE_OF: Mapping[str, str] = MappingProxyType({STARTER: "smollm2-135m"})
"""Catalog alias -> name of its shape, where that is another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is known of a model."""

    name: str
    identity: str
    """Of the file, as measurements are keyed by it; empty where it is not on disk."""
    spec: DecoderSpec
    request: PlanRequest
    """With no wish but auto, or the scheme of an export."""
    known: Known
    path: Path | None = None
    """Where it lies on disk."""


class Subjects:
    """Looks each model up once; may block, may be asked by several threads."""

    def __init__(self) -> None:
        self._known: dict[object, Subject] = {}
        self._listings: dict[str, tuple[float, Listing, bool]] = {}
        self._heads: dict[tuple[str, str], KnownHead] = {}
        """A GGUF head of a repository at a revision."""

    def find(self, name: str, cancel: threading.Event) -> Subject:
        """A model on disk, of the catalog or of the hub.

        Raises Cancelled, ModelNotFoundError, SourceError, and CheckpointError for what cannot be
        loaded.
        """
        try:
            local = resolve(name)
        except ModelNotFoundError:
            entry = entry_for(name.strip())
            if entry is None:
                raise
        else:
            return self._on_disk(local)
        known = shape_of(entry)
        return self._on_hub(entry, cancel) if known is None else known

    def on_disk(self, name: str) -> Subject:
        """A model on disk; raises ModelNotFoundError, CheckpointError."""
        return self._on_disk(resolve(name))

    def _on_disk(self, local: LocalModel) -> Subject:
        try:
            key = (local.name, _stamp(local.path))
        except OSError as error:
            raise CheckpointError(
                local.path, f"cannot be read: {error.strerror or type(error).__name__}"
            ) from error
        known = self._known.get(key)
        if known is None:
            source = open_model(local.path)
            try:
                known = _subject(
                    local.name, source, "file", source.checkpoint.identity(), local.path
                )
            finally:
                source.close()
            self._keep(key, known)
        return known

    def _on_hub(self, entry: CatalogEntry, cancel: threading.Event) -> Subject:
        check_online()
        with time_limit(cancel, LOOK_S) as stop:
            try:
                return self._looked_up(entry, stop.event)
            except Cancelled:
                stop.check(urlsplit(endpoint()).hostname or endpoint())
                raise

    def _looked_up(self, entry: CatalogEntry, cancel: threading.Event) -> Subject:
        from quantchat.hub.remote_header import RemoteRepo

        listing, may_fetch = self._listing(entry.repo, cancel)
        key = (listing.repo, listing.revision, entry.file)
        known = self._known.get(key)
        if known is not None:
            return known
        repo = RemoteRepo(listing, cancel)
        if not may_fetch:
            raise repo.hub.gated(listing.repo)
        known = self._remote(entry, repo)
        self._keep(key, known)
        return known

    def _remote(self, entry: CatalogEntry, repo: RemoteRepo) -> Subject:
        from quantchat.model.remote_sibling import KnownHead, sibling
        from quantchat.model.remote_source import remote_gguf

        source = HubSource(repo=entry.repo, file=entry.file)
        files = choose(repo.listing, source, entry, lambda index: repo.whole(index.path))
        name = files[0].path
        if not name.endswith(".gguf"):
            return _remote_folder(entry, repo, files)
        place = repo.listing.repo, repo.listing.revision
        known = self._heads.get(place)
        found = None if known is None else sibling(repo, name, known)
        if found is None:
            found, head = remote_gguf(repo, name)
            known = KnownHead.of(head)
            if known is not None:
                if len(self._heads) >= KEPT:
                    self._heads.clear()
                self._heads[place] = known
        return _subject(entry.alias, found, "header")

    def _listing(self, repo: str, cancel: threading.Event) -> tuple[Listing, bool]:
        now_s = time.monotonic()
        known = self._listings.get(repo)
        if known is not None and now_s - known[0] < LISTING_S:
            return known[1:]
        hub = Hub(cancel, patient=False)
        listing = hub.listing(repo)
        may_fetch = hub.may_fetch(listing)
        if len(self._listings) >= KEPT:
            self._listings.clear()
        self._listings[repo] = now_s, listing, may_fetch
        return listing, may_fetch

    def _keep(self, key: object, subject: Subject) -> None:
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[key] = subject


def shape_of(entry: CatalogEntry) -> Subject | None:
    """A model of the catalog whose shape stands in the table; None for others."""
    if entry.alias not in CATALOG:
        return None
    spec = SHAPES.get(SHAPE_OF.get(entry.alias, entry.alias))
    if spec is None:
        return None
    if entry.file is None:
        request = plain_request(spec)
    else:
        request = PlanRequest(
            container="gguf",
            stored_bytes=entry.size_bytes,
            stored_types=frozenset({gguf_type(entry.file)}),
        )
    return Subject(name=entry.alias, identity="", spec=spec, request=request, known="catalog")


def plain_request(spec: DecoderSpec, dtype: str = "BF16", stored_bytes: int = 0) -> PlanRequest:
    """The plan's question for a folder of plain floats."""
    return PlanRequest(
        container="safetensors",
        stored_bytes=stored_bytes or spec.parameters * 2,
        stored_types=frozenset({dtype}),
    )


def _remote_folder(entry: CatalogEntry, repo: RemoteRepo, files: list[Listed]) -> Subject:
    from quantchat.model.remote_source import plain_spec, remote_folder

    plain = plain_spec(repo)
    if plain is None:
        return _subject(entry.alias, remote_folder(repo), "header")
    spec, dtype = plain
    weights = (file.size_bytes for file in files if file.path.endswith(".safetensors"))
    return Subject(
        name=entry.alias,
        identity="",
        spec=spec,
        request=plain_request(spec, dtype, sum(weights)),
        known="config",
    )


def _subject(
    name: str, source: ModelSource, known: Known, identity: str = "", path: Path | None = None
) -> Subject:
    return Subject(
        name=name,
        identity=identity,
        spec=source.spec,
        request=plan_request(LoadRequest(model=name), source),
        known=known,
        path=path,
    )


def _stamp(path: Path) -> tuple[object, ...]:
    """What changes when a model's files do."""
    if path.is_dir():
        files = [
            file
            for file in path.iterdir()
            if file.suffix in (".safetensors", ".json", ".gguf") and file.is_file()
        ]
    else:
        files = [path.with_name(name) for name in split_parts(path.name)] or [path]
    stats = ((file, file.stat()) for file in sorted(files))
    return (str(path), *((file.name, each.st_size, each.st_mtime_ns) for file, each in stats))
