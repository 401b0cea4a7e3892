"""Models from the Hugging Face hub, brought into a folder that is kept until they are whole.

Owns the order of a fetch: list, choose, look what is there already (from an earlier attempt or in
the Hugging Face cache), check the space, transfer the rest.
"""

from __future__ import annotations

import threading
from pathlib import Path, PurePosixPath

from quantchat.hub import hf_cache
from quantchat.hub.catalog import CatalogEntry, HubSource
from quantchat.hub.http import SourceError
from quantchat.hub.hub_api import Hub, Listed, Listing, check_online
from quantchat.hub.hub_files import choose
from quantchat.hub.incoming import check_space
from quantchat.hub.manifest import Manifest, StoredFile
from quantchat.hub.parallel import Transfer, download_all
from quantchat.hub.part import is_finished, kept_bytes
from quantchat.hub.partial import Partial
from quantchat.hub.progress import Meter


def fetch_from_hub(
    source: HubSource,
    entry: CatalogEntry,
    place: Partial,
    *,
    meter: Meter,
    cancel: threading.Event,
) -> Manifest:
    """Put the model's files into the place's payload. Raises Cancelled, DownloadError."""
    check_online()
    hub = Hub(cancel)
    meter.step("asking for the list of files")
    listing = hub.listing(source.repo, source.revision)
    if listing.repo.lower() != source.repo.lower():
        meter.tell(f"{source.repo} was renamed to {listing.repo}")
    if listing.gated and not hub.token:
        raise hub.gated(source.repo)
    work = _Fetch(hub, listing, place, meter)
    files = choose(listing, source, entry, work.read_index)
    work.drop_strangers(files)
    place.describe(entry.alias, sum(file.size_bytes for file in files))
    digests = work.get(files)
    return Manifest(
        name=entry.alias,
        repo=entry.repo,
        file=entry.file,
        revision=listing.revision,
        source=f"{hub.endpoint}/{listing.repo}",
        container="gguf" if files[0].path.endswith(".gguf") else "safetensors",
        files=tuple(
            StoredFile(name=_name(file), size_bytes=file.size_bytes, digest=digest)
            for file, digest in zip(files, digests, strict=True)
        ),
    )


def check_access(source: HubSource, cancel: threading.Event) -> None:
    """Raise SourceError where the repository or the file is not for this account."""
    check_online()
    hub = Hub(cancel, patient=False)
    listing = hub.listing(source.repo, source.revision)
    if not hub.may_fetch(listing):
        raise hub.gated(source.repo)
    if source.file is not None and source.file not in listing.files:
        raise SourceError(f"{listing.repo} holds no {source.file}")


class _Fetch:
    def __init__(self, hub: Hub, listing: Listing, place: Partial, meter: Meter) -> None:
        self._hub = hub
        self._listing = listing
        self._place = place
        self._meter = meter

    def read_index(self, file: Listed) -> bytes:
        """The names of the shards are needed before the rest; the file stays for later."""
        if not self._is_there(file):
            self._transfer([file])
        return self._target(file).read_bytes()

    def get(self, files: list[Listed]) -> list[str]:
        """Bring the files that are not there yet; the digests of all."""
        missing = [file for file in files if not self._is_there(file)]
        sizes = [file.size_bytes for file in files]
        there_bytes = sum(sizes) - sum(file.size_bytes for file in missing)
        kept = [
            kept_bytes(self._place.work, _name(f), size_bytes=f.size_bytes, digest=f.digest)
            for f in missing
        ]
        check_space(sum(file.size_bytes for file in missing) - sum(kept))
        self._meter.total_bytes = sum(sizes)
        self._meter.files, self._meter.files_done = len(files), len(files) - len(missing)
        self._meter.set_counts(there_bytes, there_bytes)
        self._meter.report(force=True)
        came = self._transfer([file for file in missing if not self._copied(file)])
        self._meter.report(force=True)
        return [came.get(file.path) or str(file.digest) for file in files]

    def _transfer(self, files: list[Listed]) -> dict[str, str]:
        """Path -> digest of what came."""
        transfers = [
            Transfer(remote=self._hub.remote(self._listing, file), target=self._target(file))
            for file in files
        ]
        try:
            digests = download_all(
                transfers, work=self._place.work, meter=self._meter, cancel=self._hub.cancel
            )
        except SourceError as error:
            if error.status in (401, 403):
                raise self._refused(error.status) from error
            raise
        return dict(zip((file.path for file in files), digests, strict=True))

    def _is_there(self, file: Listed) -> bool:
        return is_finished(
            self._place.work,
            _name(file),
            self._target(file),
            size_bytes=file.size_bytes,
            digest=file.digest,
        )

    def _copied(self, file: Listed) -> bool:
        """Whether another program's cache had the very bytes."""
        if file.digest is None:
            return False
        blob = hf_cache.find_blob(self._listing.repo, file.digest.value, file.size_bytes)
        if blob is None:
            return False
        self._meter.step(f"{_name(file)} from the Hugging Face cache")
        return hf_cache.copy_blob(
            blob,
            self._target(file),
            work=self._place.work,
            size_bytes=file.size_bytes,
            digest=file.digest,
            counter=self._meter,
            cancel=self._hub.cancel,
        )

    def drop_strangers(self, files: list[Listed]) -> None:
        """Files of another revision or choice do not belong into the finished folder."""
        names = {_name(file) for file in files}
        for path in self._place.payload.iterdir():
            if path.name not in names:
                path.unlink()
        ours = {f"{name}{suffix}" for name in names for suffix in (".part", ".json")}
        for path in self._place.work.iterdir():
            if path.name not in ours:
                path.unlink()

    def _refused(self, status: int) -> SourceError:
        repo = self._listing.repo
        return self._hub.gated(repo) if self._listing.gated else self._hub.refusal(repo, status)

    def _target(self, file: Listed) -> Path:
        return self._place.payload / _name(file)


def _name(file: Listed) -> str:
    return PurePosixPath(file.path).name
