"""Conversations: a tree of turns each, written while they stream.

Regenerating adds a sibling, editing adds a sibling that begins a branch; one sibling at each
place is active, and the active ones from the root down are the conversation that is shown.
Every method may be called from any thread and is one transaction; all raise StoreError.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from quantchat.errors import StoreError
from quantchat.requests import Role
from quantchat.store.db import Database
from quantchat.store.owner import Owner, life_of, this_process
from quantchat.store.records import (
    Attachment,
    Chat,
    Figures,
    Turn,
    TurnState,
    attachments_text,
    chat_of,
    figures_text,
    one_line,
    storable,
    title_from,
    turn_of,
)
from quantchat.store.search import search_clause
from quantchat.store.tags import clean

ABANDONED_S = 600.0
"""A writer that cannot be seen from here and was silent for so long is taken for gone."""

_SIBLINGS = """
    (SELECT count(*) FROM turns AS s
     WHERE s.chat_id = t.chat_id AND ifnull(s.parent_id, 0) = ifnull(t.parent_id, 0)) AS versions
"""


class Chats:
    """The conversations in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> Database:
        """Where they lie, for the tables beside them."""
        return self._database

    def create(
        self,
        *,
        model: str = "",
        scheme: str = "",
        kv: str = "",
        system_prompt: str = "",
        title: str = "",
        tags: tuple[str, ...] = (),
        sampling: Figures | None = None,
    ) -> Chat:
        """Begin a conversation; an empty title is taken from the first user turn."""
        now_s = time.time()
        with self._database.write() as connection:
            cursor = connection.execute(
                "INSERT INTO chats (title, created_s, updated_s, model, scheme, kv, system_prompt,"
                " tags, sampling) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(storable(one_line(title)), now_s, now_s, model, scheme, kv),
                    *(storable(system_prompt), _joined(tags), figures_text(sampling or None)),
                ),
            )
            return _chat(connection, cursor.lastrowid)

    def get(self, chat_id: int) -> Chat:
        """The conversation of that id."""
        with self._database.read() as connection:
            return _chat(connection, chat_id)

    def rename(self, chat_id: int, title: str) -> Chat:
        """Give it a title; an empty one is taken from the next user turn."""
        return self._set(chat_id, title=one_line(title))

    def pin(self, chat_id: int, pinned: bool) -> Chat:
        """Keep it at the top of the list, or not."""
        return self._set(chat_id, pinned=int(pinned))

    def configure(
        self,
        chat_id: int,
        *,
        model: str | None = None,
        scheme: str | None = None,
        kv: str | None = None,
        system_prompt: str | None = None,
        tags: tuple[str, ...] | None = None,
        sampling: Figures | None = None,
    ) -> Chat:
        """Remember what it goes on with; None leaves a value as it is, no sampling takes the app's."""
        values: dict[str, str | int | None] = {
            "model": model,
            "scheme": scheme,
            "kv": kv,
            "system_prompt": system_prompt,
            "tags": None if tags is None else _joined(tags),
        }
        values = {key: value for key, value in values.items() if value is not None}
        if sampling is not None:
            values["sampling"] = figures_text(sampling or None)
        return self._set(chat_id, **values)

    def delete(self, *chat_ids: int) -> None:
        """Take them off the list together; `restore` and `undelete` bring back until `purge`."""
        now_s = time.time()
        with self._database.write() as connection:
            for chat_id in chat_ids:
                _mark_deleted(connection, chat_id, now_s)

    def restore(self, chat_id: int) -> Chat:
        """Undo a deletion."""
        with self._database.write() as connection:
            _mark_deleted(connection, chat_id, None)
            return _chat(connection, chat_id)

    def undelete(self) -> tuple[Chat, ...]:
        """Bring back what was deleted last, all that was deleted together."""
        with self._database.write() as connection:
            rows = connection.execute(
                "UPDATE chats SET deleted_s = NULL"
                " WHERE deleted_s = (SELECT max(deleted_s) FROM chats) RETURNING *"
            ).fetchall()
            return tuple(chat_of(row) for row in rows)

    def purge(self, *, older_than_s: float = 0.0) -> int:
        """Erase conversations deleted at least so long ago; how many."""
        with self._database.write() as connection:
            return connection.execute(
                "DELETE FROM chats WHERE deleted_s <= ?", (time.time() - older_than_s,)
            ).rowcount

    def add_turn(
        self,
        chat_id: int,
        parent_id: int | None,
        role: Role,
        content: str = "",
        *,
        state: TurnState = "complete",
        model: str = "",
        scheme: str = "",
        kv: str = "",
        metrics: Figures | None = None,
        attachments: Sequence[Attachment] = (),
    ) -> Turn:
        """Add a turn after its parent (None: the first one) and make it the active version.

        One with the state "streaming" belongs to this process until `finish_turn`.
        """
        now_s = time.time()
        owner = this_process() if state == "streaming" else None
        content, figures = storable(content), figures_text(metrics)
        with self._database.write() as connection:
            chat = _chat(connection, chat_id, deleted=False)
            if parent_id is not None and _turn(connection, parent_id).chat_id != chat_id:
                raise StoreError(f"turn {parent_id} is not part of conversation {chat_id}")
            _unchoose(connection, chat_id, parent_id)
            cursor = connection.execute(
                "INSERT INTO turns (chat_id, parent_id, role, content, state, model, scheme, kv,"
                " metrics, created_s, updated_s, active, owner_pid, owner_start, attachments,"
                " version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, (SELECT ifnull(max(version)"
                " + 1, 0) FROM turns WHERE chat_id = ? AND parent_id IS ?))",
                (
                    *(chat_id, parent_id, role, content, state, model, scheme, kv),
                    *(figures, now_s, now_s, owner and owner.pid, owner and owner.start),
                    attachments_text(attachments),
                    *(chat_id, parent_id),
                ),
            )
            title = chat.title or (title_from(content) if role == "user" else "")
            # The list shows what answered last, not what was asked for.
            now = (model, scheme, kv) if model else (chat.model, chat.scheme, chat.kv)
            connection.execute(
                "UPDATE chats SET updated_s = ?, title = ?, model = ?, scheme = ?, kv = ?"
                " WHERE id = ?",
                (now_s, title, *now, chat_id),
            )
            return _turn(connection, cursor.lastrowid)

    def hand_over(
        self, turn_id: int, old: str, new: str, *, model: str, scheme: str, kv: str
    ) -> Turn:
        """A streaming turn is another model's, and begins with `new` for `old`; its text stays."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE turns SET content = ? || substr(content, ?), model = ?, scheme = ?, kv = ?"
                " WHERE id = ?",
                (storable(new), len(old) + 1, model, scheme, kv, turn_id),
            )
            turn = _turn(connection, turn_id)
            connection.execute(
                "UPDATE chats SET model = ?, scheme = ?, kv = ? WHERE id = ?",
                (model, scheme, kv, turn.chat_id),
            )
            return turn

    def append_text(self, turn_id: int, text: str) -> None:
        """Add to a streaming turn of this process; kept from here on, even if it is killed."""
        owner = this_process()
        with self._database.write() as connection:
            cursor = connection.execute(
                "UPDATE turns SET content = content || ?, updated_s = ?"
                " WHERE id = ? AND owner_pid = ? AND owner_start = ?",
                (storable(text), time.time(), turn_id, owner.pid, owner.start),
            )
            if cursor.rowcount == 0:
                raise StoreError(f"turn {turn_id} is not being written here")

    def finish_turn(
        self,
        turn_id: int,
        state: TurnState,
        content: str,
        metrics: Figures | None = None,
        *,
        note: str = "",
    ) -> Turn:
        """End a streaming turn with all of its text; `note` says why it stopped or failed."""
        assert state != "streaming"
        now_s = time.time()
        with self._database.write() as connection:
            cursor = connection.execute(
                "UPDATE turns SET state = ?, content = ?, metrics = ?, note = ?, updated_s = ?,"
                " owner_pid = NULL, owner_start = NULL WHERE id = ?",
                (state, storable(content), figures_text(metrics), storable(note), now_s, turn_id),
            )
            if cursor.rowcount == 0:
                raise StoreError(f"turn {turn_id} is gone")
            connection.execute(
                "UPDATE chats SET updated_s = ?"
                " WHERE id = (SELECT chat_id FROM turns WHERE id = ?)",
                (now_s, turn_id),
            )
            return _turn(connection, turn_id)

    def turn(self, turn_id: int) -> Turn:
        """The turn of that id."""
        with self._database.read() as connection:
            return _turn(connection, turn_id)

    def path(self, chat_id: int) -> tuple[Turn, ...]:
        """The active turns from the first to the last."""
        with self._database.read() as connection:
            _chat(connection, chat_id)
            rows = connection.execute(
                f"""
                WITH RECURSIVE line (id, depth) AS (
                    SELECT id, 0 FROM turns WHERE chat_id = ? AND parent_id IS NULL AND active = 1
                    UNION ALL
                    SELECT turns.id, depth + 1 FROM line JOIN turns ON turns.parent_id = line.id
                    WHERE turns.active = 1
                )
                SELECT t.*, {_SIBLINGS} FROM line JOIN turns AS t ON t.id = line.id ORDER BY depth
                """,
                (chat_id,),
            )
            return tuple(turn_of(row) for row in rows)

    def siblings(self, turn_id: int) -> tuple[Turn, ...]:
        """All versions of a turn, itself among them, oldest first."""
        with self._database.read() as connection:
            turn = _turn(connection, turn_id)
            rows = connection.execute(
                f"SELECT t.*, {_SIBLINGS} FROM turns AS t"
                " WHERE chat_id = ? AND parent_id IS ? ORDER BY version",
                (turn.chat_id, turn.parent_id),
            )
            return tuple(turn_of(row) for row in rows)

    def choose(self, turn_id: int) -> tuple[Turn, ...]:
        """Make a turn active, and with it all that lead to it; the new path."""
        with self._database.write() as connection:
            turn = _turn(connection, turn_id)
            step: Turn | None = turn
            while step is not None:
                _unchoose(connection, step.chat_id, step.parent_id)
                connection.execute("UPDATE turns SET active = 1 WHERE id = ?", (step.id,))
                step = None if step.parent_id is None else _turn(connection, step.parent_id)
        return self.path(turn.chat_id)

    def recover(self) -> int:
        """Mark turns whose writer is gone as stopped, with the text they have; how many."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id, updated_s, owner_pid, owner_start FROM turns WHERE state = 'streaming'"
            ).fetchall()
        gone = [row for row in rows if _abandoned(row)]
        if not gone:
            return 0
        with self._database.write() as connection:
            return sum(
                connection.execute(
                    "UPDATE turns SET state = 'stopped', note = 'quantchat ended while it streamed'"
                    " WHERE id = ? AND state = 'streaming' AND updated_s = ?",
                    (row["id"], row["updated_s"]),
                ).rowcount
                for row in gone
            )

    def latest(self) -> Chat | None:
        """The conversation that changed last, pinned or not; None where there is none."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT * FROM chats WHERE deleted_s IS NULL ORDER BY updated_s DESC, id DESC"
                " LIMIT 1"
            ).fetchone()
            return None if row is None else chat_of(row)

    def list(self, limit: int = 200, search: str = "") -> tuple[Chat, ...]:
        """Conversations, pinned first, then the latest; `search` wants every word of it found."""
        condition, parameters = search_clause(search)
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT * FROM chats WHERE deleted_s IS NULL AND {condition}"
                " ORDER BY pinned DESC, updated_s DESC, id DESC LIMIT ?",
                (*parameters, limit),
            )
            return tuple(chat_of(row) for row in rows)

    def _set(self, chat_id: int, **values: str | int | None) -> Chat:
        values = {
            name: storable(value) if isinstance(value, str) else value
            for name, value in values.items()
        }
        columns = ", ".join(f"{name} = ?" for name in values)
        with self._database.write() as connection:
            if columns:
                connection.execute(
                    f"UPDATE chats SET {columns} WHERE id = ?", (*values.values(), chat_id)
                )
            return _chat(connection, chat_id)


def _no_chat(chat_id: int | None) -> StoreError:
    return StoreError(f"conversation {chat_id} is gone", hint="it may have been deleted elsewhere")


def _chat(connection: sqlite3.Connection, chat_id: int | None, *, deleted: bool = True) -> Chat:
    """The conversation; with `deleted` off, one in the bin is an error too."""
    row = connection.execute("SELECT * FROM chats WHERE id = ?", (chat_id,)).fetchone()
    if row is None:
        raise _no_chat(chat_id)
    if row["deleted_s"] is not None and not deleted:
        raise StoreError(
            "this conversation was deleted, here or in another quantchat",
            hint="undo it in the list of conversations, or begin a new one",
        )
    return chat_of(row)


def _mark_deleted(connection: sqlite3.Connection, chat_id: int, when_s: float | None) -> None:
    cursor = connection.execute("UPDATE chats SET deleted_s = ? WHERE id = ?", (when_s, chat_id))
    if cursor.rowcount == 0:
        raise _no_chat(chat_id)


def _joined(tags: tuple[str, ...]) -> str:
    return storable("\n".join(clean(tags)))


def _turn(connection: sqlite3.Connection, turn_id: int | None) -> Turn:
    row = connection.execute(
        f"SELECT t.*, {_SIBLINGS} FROM turns AS t WHERE id = ?", (turn_id,)
    ).fetchone()
    if row is None:
        raise StoreError(f"turn {turn_id} is gone", hint="it may have been deleted elsewhere")
    return turn_of(row)


def _unchoose(connection: sqlite3.Connection, chat_id: int, parent_id: int | None) -> None:
    connection.execute(
        "UPDATE turns SET active = 0 WHERE chat_id = ? AND parent_id IS ? AND active = 1",
        (chat_id, parent_id),
    )


def _abandoned(row: sqlite3.Row) -> bool:
    if row["owner_pid"] is None:
        return True
    life = life_of(Owner(pid=row["owner_pid"], start=row["owner_start"]))
    if life == "elsewhere":
        return bool(time.time() - row["updated_s"] > ABANDONED_S)
    return life == "gone"
