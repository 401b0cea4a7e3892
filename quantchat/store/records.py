"""Conversations as they come out of the store: frozen records, read from rows."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from quantchat.errors import StoreError
from quantchat.requests import Role

TurnState: TypeAlias = Literal["streaming", "complete", "stopped", "failed"]
Figures: TypeAlias = Mapping[str, float | int]
"""Meters of an answer by name, units in the names."""

TITLE_LIMIT = 60
"""Characters of a title taken from a message."""
TITLE_MAX = 200
"""Characters of a title that a person gave."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """Text that came with a message: a file, or a paste too long to show."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """One conversation, without its turns."""

    id: int
    title: str
    """Empty until the first user turn gives it one."""
    created_s: float
    """Seconds since the epoch."""
    updated_s: float
    model: str
    scheme: str
    kv: str
    system_prompt: str
    pinned: bool
    tags: tuple[str, ...]
    sampling: Figures | None
    """Sampling settings of its own, by the settings' names; None takes the app's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message in the tree: siblings are versions of it, children follow it."""

    id: int
    chat_id: int
    parent_id: int | None
    role: Role
    content: str
    state: TurnState
    model: str
    scheme: str
    kv: str
    metrics: Figures | None
    note: str
    """Why it was stopped or failed, in words."""
    created_s: float
    version: int
    """Place among its siblings, from 0."""
    versions: int
    """How many siblings there are, itself counted."""
    active: bool
    """Whether it is the chosen one among its siblings."""
    attachments: tuple[Attachment, ...]


def chat_of(row: sqlite3.Row) -> Chat:
    """A row of chats as a record."""
    return Chat(
        id=row["id"],
        title=row["title"],
        created_s=row["created_s"],
        updated_s=row["updated_s"],
        model=row["model"],
        scheme=row["scheme"],
        kv=row["kv"],
        system_prompt=row["system_prompt"],
        pinned=bool(row["pinned"]),
        tags=tuple(tag for tag in row["tags"].split("\n") if tag),
        sampling=_figures(row["sampling"]),
    )


def turn_of(row: sqlite3.Row) -> Turn:
    """A row of turns, with `versions` counted, as a record."""
    return Turn(
        id=row["id"],
        chat_id=row["chat_id"],
        parent_id=row["parent_id"],
        role=row["role"],
        content=row["content"],
        state=row["state"],
        model=row["model"],
        scheme=row["scheme"],
        kv=row["kv"],
        metrics=_figures(row["metrics"]),
        note=row["note"],
        created_s=row["created_s"],
        version=row["version"],
        versions=row["versions"],
        active=bool(row["active"]),
        attachments=_attachments(row["attachments"]),
    )


def _figures(text: str | None) -> Figures | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise StoreError(f"the meters of a turn cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise StoreError("the meters of a turn are not a table")
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _attachments(text: str) -> tuple[Attachment, ...]:
    try:
        return tuple(Attachment(each["name"], each["text"]) for each in json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"the attachments of a turn cannot be read: {error}") from error


def figures_text(figures: Figures | None) -> str | None:
    """Figures as a row keeps them, without those that are no number."""
    if figures is None:
        return None
    return json.dumps({name: value for name, value in figures.items() if math.isfinite(value)})


def attachments_text(attachments: Sequence[Attachment]) -> str:
    """Attachments as a row keeps them."""
    return json.dumps(
        [{"name": storable(each.name), "text": storable(each.text)} for each in attachments]
    )


def one_line(title: str) -> str:
    """A title as it is kept: a single line of bounded length."""
    return " ".join(title[: 4 * TITLE_MAX].split())[:TITLE_MAX]


def storable(text: str) -> str:
    """The text without what SQLite cannot hold: NUL and halves of surrogate pairs."""
    return re.sub("[\x00\ud800-\udfff]", "\ufffd", text)


def title_from(text: str) -> str:
    """A title out of a first message: its first line of words, cut between words."""
    lines = (re.sub(r"[#>*_`~|\s]+", " ", line).strip() for line in text.splitlines())
    line = next((line for line in lines if line), "")
    if len(line) <= TITLE_LIMIT:
        return line
    head = line[:TITLE_LIMIT]
    words, _, _ = head.rpartition(" ")
    return (words if len(words) > TITLE_LIMIT // 2 else head).rstrip(" ,;:.") + "…"
