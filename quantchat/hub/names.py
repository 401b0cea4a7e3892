"""What a user may call a model: alias, `owner/name`, `owner/name:file.gguf`, or a hub address.

Owns the parsing of names. Paths are `local`'s business.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from quantchat.hub.catalog import CATALOG, CatalogEntry, HubSource, entry_of
from quantchat.hub.splits import first_part

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPO = re.compile(rf"{_PART}/{_PART}")
_FILE = re.compile(r"[A-Za-z0-9._ +()\[\]-]+(/[A-Za-z0-9._ +()\[\]-]+)*")
_TOLD = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9._]|[/:](?=[A-Za-z0-9._]))*")
"""Names whose separators can be put back."""
_NAME_CHARS = 120
_HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_NO_OWNERS = ("datasets", "spaces", "collections", "papers", "docs", "blog")
"""Pages of the hub that are no models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubName:
    """A repository, or one file in it."""

    repo: str
    file: str | None

    def __str__(self) -> str:
        return f"{self.repo}:{self.file}" if self.file else self.repo


def parse_hub_name(name: str) -> HubName | None:
    """Read `owner/name`, `owner/name:file.gguf` or a hub address; None when it is neither."""
    text = name.strip()
    if "://" in text or text.split("/")[0] in _HUB_HOSTS:
        return _from_address(text)
    repo, _, file = text.partition(":")
    return _checked(repo, file or None)


def entry_for(name: str) -> CatalogEntry | None:
    """The catalog's entry for a name, or one made up for a hub repository; None for other words."""
    if name in CATALOG:
        return CATALOG[name]
    hub = parse_hub_name(name)
    if hub is None:
        return None
    known = entry_of(hub.repo, hub.file)
    if known is not None:
        return known
    return CatalogEntry(
        alias=str(hub),
        title=str(hub),
        repo=hub.repo,
        file=hub.file,
        parameters=0,
        license="",
        size_bytes=0,
        sha256=None,
        context_tokens=0,
        note="",
        sources=(HubSource(repo=hub.repo, file=hub.file),),
    )


def folder_name(entry: CatalogEntry) -> str:
    """A folder name made from the alias: no separators, nothing hidden, at most 120 characters.

    Another alias has another one: files of a repository often differ in their names' ends alone.
    """
    return file_name(entry.alias)


def file_name(name: str) -> str:
    """A name of at most 120 plain characters, with a digest where they do not tell all of it."""
    plain = re.sub(r"[/\\:]+", "--", name)
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", plain).lstrip(".")
    if _TOLD.fullmatch(name) and len(plain) <= _NAME_CHARS:
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{plain[: _NAME_CHARS - 17]}-{digest}"


def _from_address(text: str) -> HubName | None:
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        endpoint = urlsplit(os.environ.get("HF_ENDPOINT", ""))
    except ValueError:
        # Half an address: brackets that are not closed, characters that no host has.
        return None
    if parts.hostname not in _HUB_HOSTS and (
        not endpoint.hostname or parts.hostname != endpoint.hostname
    ):
        return None
    words = [unquote(word) for word in parts.path.split("/") if word]
    if len(words) < 2 or words[0] in _NO_OWNERS:
        return None
    file = None
    if len(words) > 4 and words[2] in ("blob", "resolve", "raw"):
        file = "/".join(words[4:])
    return _checked(f"{words[0]}/{words[1]}", file)


def _checked(repo: str, file: str | None) -> HubName | None:
    if not _REPO.fullmatch(repo) or ".." in repo:
        return None
    if file is not None:
        steps = file.split("/")
        if not _FILE.fullmatch(file) or not file.endswith(".gguf") or ".." in steps:
            return None
        # A split model goes by its first part.
        file = first_part(file)
    return HubName(repo=repo, file=file)
