"""A conversation with its whole tree, as it travels between databases.

Owns reading it out and putting it in, all or nothing. Formats belong to `as_json`, `as_markdown`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

from quantchat.store.chats import Chats
from quantchat.store.records import (
    Chat,
    Turn,
    attachments_text,
    chat_of,
    figures_text,
    one_line,
    storable,
    turn_of,
)
from quantchat.store.tags import clean


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Ids are those of where it comes from; a parent stands before its children."""

    chat: Chat
    turns: tuple[Turn, ...]
    """All versions of all turns."""

    @property
    def path(self) -> tuple[Turn, ...]:
        """The active turns from the first to the last."""
        chosen = {turn.parent_id: turn for turn in self.turns if turn.active}
        path: list[Turn] = []
        step = chosen.get(None)
        while step is not None:
            path.append(step)
            step = chosen.get(step.id)
        return tuple(path)


def read_archive(chats: Chats, chat_id: int) -> Archive:
    """The conversation as it is now; raises StoreError."""
    chat = chats.get(chat_id)
    with chats.database.search() as connection:
        row = connection.execute("SELECT * FROM chats WHERE id = ?", (chat_id,)).fetchone()
        rows = connection.execute(
            """
            SELECT t.*, count(*) OVER (PARTITION BY ifnull(t.parent_id, 0)) AS versions
            FROM turns AS t WHERE chat_id = ? ORDER BY id
            """,
            (chat_id,),
        )
        turns = tuple(turn_of(each) for each in rows)
    return Archive(chat=chat if row is None else chat_of(row), turns=turns)


def add_archives(chats: Chats, archives: Sequence[Archive]) -> tuple[Chat, ...]:
    """Put conversations in as new ones, all of them or none; raises StoreError.

    Times are kept, except that none lies in the future; an answer that streamed is stopped.
    """
    now_s = time.time()
    added: list[Chat] = []
    with chats.database.write() as connection:
        for archive in archives:
            chat = archive.chat
            cursor = connection.execute(
                "INSERT INTO chats (title, created_s, updated_s, model, scheme, kv, system_prompt,"
                " pinned, tags, sampling) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(storable(one_line(chat.title)), min(chat.created_s, now_s)),
                    *(min(chat.updated_s, now_s), storable(chat.model), storable(chat.scheme)),
                    *(storable(chat.kv), storable(chat.system_prompt), int(chat.pinned)),
                    *(storable("\n".join(clean(chat.tags))), figures_text(chat.sampling)),
                ),
            )
            chat_id = cursor.lastrowid
            assert chat_id is not None
            ids: dict[int | None, int | None] = {None: None}
            for turn in archive.turns:
                streamed = turn.state == "streaming"
                cursor = connection.execute(
                    "INSERT INTO turns (chat_id, parent_id, role, content, state, model, scheme,"
                    " kv, metrics, note, created_s, updated_s, version, active, attachments)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(chat_id, ids[turn.parent_id], turn.role, storable(turn.content)),
                        *("stopped" if streamed else turn.state, storable(turn.model)),
                        *(storable(turn.scheme), storable(turn.kv), figures_text(turn.metrics)),
                        *(storable(turn.note), min(turn.created_s, now_s), now_s, turn.version),
                        *(int(turn.active), attachments_text(turn.attachments)),
                    ),
                )
                ids[turn.id] = cursor.lastrowid
            row = connection.execute("SELECT * FROM chats WHERE id = ?", (chat_id,)).fetchone()
            added.append(chat_of(row))
    return tuple(added)


def renumbered(archive: Archive) -> Archive:
    """The same tree with ids from 1 in order: equal for equal conversations."""
    ids: dict[int | None, int | None] = {None: None}
    turns: list[Turn] = []
    for number, turn in enumerate(archive.turns, 1):
        ids[turn.id] = number
        turns.append(dataclasses.replace(turn, id=number, chat_id=1, parent_id=ids[turn.parent_id]))
    return Archive(chat=dataclasses.replace(archive.chat, id=1), turns=tuple(turns))
