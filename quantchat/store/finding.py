"""The list of conversations, page by page, with what was found in them.

Owns order, pages and snippets. The condition belongs to `search`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from quantchat.store.db import Database
from quantchat.store.records import Chat, chat_of
from quantchat.store.search import parsed, search_clause, snippet

ORDER = "pinned DESC, updated_s DESC, id DESC"
LOOKED_AT_CHARS = 400_000
"""Of one conversation for its snippet."""


@dataclass(frozen=True, slots=True)
class Found:
    """A conversation in the list."""

    chat: Chat
    snippet: str
    """A line around the words found in a turn, "" without a search or when the title has them."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the list."""

    found: tuple[Found, ...]
    total: int
    """Of all pages."""


def find(
    database: Database,
    search: str = "",
    *,
    limit: int,
    offset: int = 0,
    unwanted: Callable[[], bool] = lambda: False,
) -> Page:
    """Conversations, pinned first, then the latest; raises Cancelled once it is `unwanted`."""
    condition, parameters = search_clause(search)
    terms = parsed(search).terms
    where = f"FROM chats WHERE deleted_s IS NULL AND {condition}"
    with database.search(unwanted) as connection:
        rows = connection.execute(
            f"SELECT * {where} ORDER BY {ORDER} LIMIT ? OFFSET ?", (*parameters, limit, offset)
        ).fetchall()
        total = offset + len(rows)
        if len(rows) == limit:
            total = connection.execute(f"SELECT count(*) {where}", parameters).fetchone()[0]
        found = []
        for row in rows:
            if terms and unwanted():
                break
            found.append(Found(chat_of(row), _snippet(connection, row["id"], terms)))
        return Page(tuple(found), total)


def all_tags(database: Database) -> dict[str, int]:
    """Tags in use and how many conversations have each, the most used first."""
    with database.search() as connection:
        rows = connection.execute(
            "SELECT tags FROM chats WHERE deleted_s IS NULL AND tags <> ''"
        ).fetchall()
    counts: dict[str, int] = {}
    for row in rows:
        for tag in row["tags"].split("\n"):
            counts[tag] = counts.get(tag, 0) + 1
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0].casefold())))


def _snippet(connection: sqlite3.Connection, chat_id: int, terms: tuple[str, ...]) -> str:
    """Out of the turn with the most of the terms; those on the shown path and later ones first."""
    if not terms:
        return ""
    wanted = {term.casefold() for term in terms}
    best, best_count, looked_at = "", 0, 0
    for row in connection.execute(
        "SELECT content FROM turns WHERE chat_id = ? ORDER BY active DESC, id DESC", (chat_id,)
    ):
        folded = row["content"].casefold()
        count = sum(term in folded for term in wanted)
        if count > best_count:
            best, best_count = row["content"], count
        looked_at += len(folded)
        if best_count == len(wanted) or looked_at > LOOKED_AT_CHARS:
            break
    return snippet(best, terms)
