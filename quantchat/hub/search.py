"""Search of the hub's text models, as rows for a picker.

Owns the question and what is taken from the answer; all of it is the hub's and so neither trusted
nor markup. One question at a time in the caller's thread, given up at its time limit or `cancel`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import urlencode

from quantchat.errors import Cancelled
from quantchat.hub.http import SourceError, parse_json
from quantchat.hub.hub_api import Hub, check_online
from quantchat.hub.names import parse_hub_name

Sort: TypeAlias = Literal["downloads", "updated", "likes", "trending"]

SEARCH_S = 8.0
ROWS_MAX = 1000
_SORTS: dict[Sort, str] = {
    "downloads": "downloads",
    "updated": "lastModified",
    "likes": "likes",
    "trending": "trendingScore",
}
_EXPAND = ("downloads", "likes", "lastModified", "gated", "tags", "safetensors", "gguf", "private")
_CHAT_TASKS = frozenset({"text-generation", "image-text-to-text", "any-to-any", "conversational"})
_OTHER_TASK_WORDS = (
    "audio-classification audio-to-audio automatic-speech-recognition depth-estimation "
    "feature-extraction fill-mask image-classification image-feature-extraction "
    "image-segmentation image-to-3d image-to-image image-to-text image-to-video mask-generation "
    "object-detection question-answering reinforcement-learning robotics sentence-similarity "
    "summarization tabular-classification text-classification text-ranking text-to-3d "
    "text-to-audio text-to-image text-to-speech text-to-video time-series-forecasting "
    "token-classification translation video-classification video-to-video "
    "visual-document-retrieval zero-shot-classification zero-shot-image-classification"
)
_OTHER_TASKS = frozenset(_OTHER_TASK_WORDS.split(" "))
_QUERY_CHARS = 200
_TAGS_MAX = 100
_TEXT_CHARS = 200
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRepo:
    """A repository of the hub that may hold a model."""

    repo: str
    downloads: int
    """Of the last thirty days."""
    likes: int
    updated: str
    """Date of the last change, YYYY-MM-DD; empty where not told."""
    gated: bool
    private: bool
    license: str
    tags: tuple[str, ...]
    parameters: int
    """0 where not told."""


def search(
    query: str,
    *,
    sort: Sort = "downloads",
    limit: int = 50,
    timeout_s: float = SEARCH_S,
    cancel: threading.Event,
) -> list[FoundRepo]:
    """Repositories that match, best first; a pasted address or `owner/name` finds itself first.

    Raises Cancelled, SourceError: with fault "unreachable" the machine is offline.
    """
    check_online()
    text = " ".join(query.split())[:_QUERY_CHARS]
    named = parse_hub_name(text)
    words = {
        "search": named.repo if named is not None else text,
        "pipeline_tag": "text-generation",
        "sort": _SORTS[sort],
        "direction": "-1",
        "limit": str(max(1, min(limit, ROWS_MAX))),
    }
    if text:
        # Models that also see are not text-generation to the hub: what is no chat model goes below.
        del words["pipeline_tag"]
    else:
        del words["search"]
    asked = urlencode([*words.items(), *(("expand[]", each) for each in _EXPAND)])
    with time_limit(cancel, timeout_s) as stop:
        hub = Hub(stop.event, patient=False)
        try:
            status, headers, body = hub.ask(f"/api/models?{asked}")
        except Cancelled:
            stop.check(hub.host)
            raise
    if status != 200:
        raise hub.refusal("the search", status, headers)
    data = parse_json(body, hub.host)
    if not isinstance(data, list):
        raise SourceError(f"{hub.host} answered the search with something unreadable")
    rows = [row for row in map(_row, data[:ROWS_MAX]) if row is not None]
    if named is not None:
        wanted = named.repo.lower()
        rows.sort(key=lambda row: row.repo.lower() != wanted)
        return rows
    return [row for row in rows if may_chat(row.tags)]


def may_chat(tags: tuple[str, ...]) -> bool:
    """Whether a repository's tags leave it open that it holds a model to chat with."""
    return bool(_CHAT_TASKS.intersection(tags)) or not _OTHER_TASKS.intersection(tags)


class Stop:
    """A caller's cancel and a time limit as one event."""

    def __init__(self, cancel: threading.Event) -> None:
        self.event = threading.Event()
        self._cancel = cancel

    def check(self, host: str) -> None:
        """Raise SourceError where it was the time limit that ended the work."""
        if not self._cancel.is_set():
            raise SourceError(f"{host} did not answer in time", fault="unreachable")


@contextmanager
def time_limit(cancel: threading.Event, timeout_s: float) -> Iterator[Stop]:
    """Set the stop's event at `cancel` or after `timeout_s`, looking twenty times a second."""
    stop, done = Stop(cancel), threading.Event()

    def watch() -> None:
        for _ in range(max(1, round(timeout_s / 0.05))):
            if done.is_set() or cancel.wait(0.05):
                break
        stop.event.set()

    threading.Thread(target=watch, name="quantchat-limit", daemon=True).start()
    try:
        yield stop
    finally:
        done.set()


def license_of(tags: tuple[str, ...]) -> str:
    """The licence among a repository's tags; empty where it has none."""
    return next((tag.partition(":")[2] for tag in tags if tag.startswith("license:")), "")


def tags_of(data: Any) -> tuple[str, ...]:
    """The tags of an answer, bounded and without what could draw."""
    found = data.get("tags")
    if not isinstance(found, list):
        return ()
    return tuple(plain(tag) for tag in found[:_TAGS_MAX] if isinstance(tag, str))


def parameters_of(data: Any) -> int:
    """The number of weights that the hub counted; 0 where it did not."""
    for key in ("safetensors", "gguf"):
        told = data.get(key)
        total = told.get("total") if isinstance(told, dict) else None
        if isinstance(total, int) and 0 < total < 1 << 50:
            return total
    return 0


def plain(text: str) -> str:
    """Text of others, safe to show: bounded, one line, no invisible marks."""
    return _UNSEEN.sub("", text)[:_TEXT_CHARS]


def _row(data: Any) -> FoundRepo | None:
    if not isinstance(data, dict):
        return None
    name = data.get("id")
    if not isinstance(name, str) or parse_hub_name(name) is None:
        return None
    tags = tags_of(data)
    updated = data.get("lastModified")
    return FoundRepo(
        repo=name,
        downloads=_count(data.get("downloads")),
        likes=_count(data.get("likes")),
        updated=plain(updated)[:10] if isinstance(updated, str) else "",
        gated=bool(data.get("gated")),
        private=data.get("private") is True,
        license=license_of(tags),
        tags=tags,
        parameters=parameters_of(data),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 50 else 0
