"""The Hugging Face hub of this environment: its address, token, answers, and refusals in words.

Follows HF_ENDPOINT, HF_TOKEN (or the log-in of `hf auth login`) and HF_HUB_OFFLINE. The token goes
to the endpoint alone. What is taken from a repository is `hub_files`' business.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import quote, urlsplit

from quantchat.hub.download import Digest, Remote, pause, retry_after_s
from quantchat.hub.http import SourceError, get_bytes, parse_json
from quantchat.hub.names import parse_hub_name

_ANSWER_BYTES = 32 << 20
_FILE_BYTES = 1 << 40
_ASKS = 4
_ASK_WAIT_S = 30.0
_RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})
_NO_NAME = "\\:"
"""Marks by which a file would leave its folder on some systems; no model's file has them."""
_DISABLED = "access to this resource is disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A file of a repository."""

    path: str
    size_bytes: int
    digest: Digest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A repository at one revision."""

    repo: str
    """Its name today: another one than was asked for where it was renamed."""
    revision: str
    gated: bool
    private: bool
    files: Mapping[str, Listed]
    data: Mapping[str, Any]
    """The hub's whole answer."""


class Hub:
    """The hub of this environment, for one task that `cancel` can end."""

    def __init__(self, cancel: threading.Event, *, patient: bool = True) -> None:
        self.cancel = cancel
        self.endpoint = endpoint()
        self.host = urlsplit(self.endpoint).hostname or self.endpoint
        self.token = _token()
        self._asks = _ASKS if patient else 1

    @property
    def authorization(self) -> str | None:
        """The header that goes to the endpoint."""
        return f"Bearer {self.token}" if self.token else None

    def ask(self, path: str) -> tuple[int, Message, bytes]:
        """Status, headers and body of an answer; busy and broken ones are asked again."""
        failures = 0
        while True:
            failures += 1
            try:
                status, headers, body, _ = get_bytes(
                    f"{self.endpoint}{path}",
                    cancel=self.cancel,
                    limit_bytes=_ANSWER_BYTES,
                    authorization=self.authorization,
                )
            except SourceError as error:
                if error.fault != "broken" or failures >= self._asks:
                    raise
                wait_s = None
            else:
                wait_s = retry_after_s(headers.get("Retry-After", ""))
                tired = failures >= self._asks or (wait_s or 0.0) > _ASK_WAIT_S
                if status not in _RETRY_STATUS or tired:
                    return status, headers, body
            pause(failures, wait_s, cancel=self.cancel)

    def listing(self, repo: str, revision: str = "main") -> Listing:
        """The files of a repository. Raises SourceError in words for each kind of refusal."""
        status, headers, body = self.ask(
            f"/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true"
        )
        if status != 200:
            raise self.refusal(repo, status, headers)
        listing = _read_listing(repo, parse_json(body, self.host), self.host)
        if listing.data.get("disabled") is True:
            raise self.disabled(repo)
        return listing

    def may_fetch(self, listing: Listing) -> bool:
        """Whether the account has what a gated repository asks for."""
        if not listing.gated:
            return True
        if not self.token:
            return False
        status, _, _ = self.ask(f"/api/models/{listing.repo}/auth-check")
        return status not in (401, 403)

    def remote(self, listing: Listing, file: Listed) -> Remote:
        """Where a listed file is fetched from."""
        path = quote(file.path)
        return Remote(
            url=f"{self.endpoint}/{listing.repo}/resolve/{quote(listing.revision)}/{path}",
            name=file.path,
            size_bytes=file.size_bytes,
            limit_bytes=_FILE_BYTES,
            digest=file.digest,
            authorization=self.authorization,
        )

    def refusal(self, repo: str, status: int, headers: Message | None = None) -> SourceError:
        """A refused request in words; gated, private, disabled and missing ones read apart."""
        code = headers.get("X-Error-Code", "") if headers is not None else ""
        said = headers.get("X-Error-Message", "") if headers is not None else ""
        if _DISABLED in said.lower():
            return self.disabled(repo)
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
        if self.token and (status == 404 or code == "RepoNotFound"):
            return SourceError(
                f"{repo} does not exist on {self.host}, or your account may not see it",
                hint="check the spelling; a private one needs the token of a member: "
                "`hf auth login` or HF_TOKEN",
                status=status,
            )
        if status in (401, 404) or code == "RepoNotFound":
            return SourceError(
                f"{repo} does not exist on {self.host}, or it is private",
                hint="check the spelling; for a private one set HF_TOKEN or run `hf auth login`",
                status=status,
            )
        if status == 429:
            return SourceError(
                f"{self.host} asks to slow down; try again later", status=status, fault="broken"
            )
        return SourceError(
            f"{self.host} answered {status} for {repo}",
            status=status,
            fault="broken" if status >= 500 else "final",
        )

    def gated(self, repo: str) -> SourceError:
        """A repository whose licence must be accepted first."""
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

    def disabled(self, repo: str) -> SourceError:
        """A repository that the hub itself has closed."""
        return SourceError(
            f"{repo} was disabled by {self.host}",
            hint=f"its page may say why: {self.endpoint}/{repo}; look for a copy by another owner",
            status=403,
        )


def endpoint() -> str:
    """The hub's address without a trailing slash."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or str(constants.ENDPOINT)).rstrip("/")


def label() -> str:
    """The source in words."""
    return f"Hugging Face hub ({urlsplit(endpoint()).hostname})"


def check_online() -> None:
    """Raise SourceError where the user told all programs to leave the hub alone."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE:
        raise SourceError(
            "HF_HUB_OFFLINE is set",
            hint="unset HF_HUB_OFFLINE to use the hub",
            fault="unreachable",
        )


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def _read_listing(repo: str, data: Any, host: str) -> Listing:
    try:
        siblings = data["siblings"]
        revision = data["sha"]
        name = data.get("id", repo)
        if not isinstance(siblings, list) or not isinstance(revision, str):
            raise TypeError
        files = {}
        for item in siblings:
            path, size, lfs = item["rfilename"], item.get("size"), item.get("lfs")
            if not isinstance(path, str) or not isinstance(size, int) or size < 0:
                continue
            if not path.isprintable() or any(mark in path for mark in _NO_NAME):
                continue
            digest = None
            if isinstance(lfs, dict):
                digest = Digest(kind="sha256", value=str(lfs["sha256"]))
            elif isinstance(item.get("blobId"), str):
                digest = Digest(kind="git", value=item["blobId"])
            files[path] = Listed(path=path, size_bytes=size, digest=digest)
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{host} answered with a list of files that cannot be read") from error
    return Listing(
        repo=name if isinstance(name, str) and parse_hub_name(name) is not None else repo,
        revision=revision,
        gated=bool(data.get("gated", False)),
        private=data.get("private") is True,
        files=files,
        data=data,
    )
