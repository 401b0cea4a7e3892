"""The shape of the database, version by version; only ever appended to.

Each entry brings the database from version n to n + 1 (`PRAGMA user_version`) in one transaction.
"""

from __future__ import annotations

import sqlite3

from quantchat.errors import StoreError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE chats (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            title TEXT NOT NULL DEFAULT '',
            created_s REAL NOT NULL,
            updated_s REAL NOT NULL,
            model TEXT NOT NULL DEFAULT '',
            scheme TEXT NOT NULL DEFAULT '',
            kv TEXT NOT NULL DEFAULT '',
            system_prompt TEXT NOT NULL DEFAULT '',
            pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1))
        )
        """,
        """
        CREATE TABLE turns (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            chat_id INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
            parent_id INTEGER REFERENCES turns (id) ON DELETE CASCADE,
            role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
            content TEXT NOT NULL,
            state TEXT NOT NULL
                CHECK (state IN ('streaming', 'complete', 'stopped', 'failed')),
            model TEXT NOT NULL DEFAULT '',
            scheme TEXT NOT NULL DEFAULT '',
            kv TEXT NOT NULL DEFAULT '',
            metrics TEXT,
            note TEXT NOT NULL DEFAULT '',
            created_s REAL NOT NULL,
            updated_s REAL NOT NULL,
            version INTEGER NOT NULL,
            active INTEGER NOT NULL CHECK (active IN (0, 1)),
            owner_pid INTEGER,
            owner_start TEXT
        )
        """,
        """
        CREATE UNIQUE INDEX turns_version ON turns (chat_id, ifnull(parent_id, 0), version)
        """,
        """
        CREATE UNIQUE INDEX turns_active ON turns (chat_id, ifnull(parent_id, 0)) WHERE active = 1
        """,
        "CREATE INDEX turns_parent ON turns (parent_id)",
        "CREATE INDEX turns_streaming ON turns (id) WHERE state = 'streaming'",
        "CREATE INDEX chats_order ON chats (pinned DESC, updated_s DESC)",
    ),
    (
        "ALTER TABLE chats ADD COLUMN deleted_s REAL",
        "CREATE INDEX chats_deleted ON chats (deleted_s) WHERE deleted_s IS NOT NULL",
        # Trigrams find any part of a word, in scripts without spaces too.
        """
        CREATE VIRTUAL TABLE turns_text USING fts5 (
            content, content = 'turns', content_rowid = 'id', tokenize = 'trigram'
        )
        """,
        # A turn is indexed when it is finished: not again for each piece that streams in.
        """
        CREATE TRIGGER turns_text_insert AFTER INSERT ON turns
        WHEN new.state <> 'streaming'
        BEGIN
            INSERT INTO turns_text (rowid, content) VALUES (new.id, new.content);
        END
        """,
        """
        CREATE TRIGGER turns_text_update AFTER UPDATE OF content, state ON turns
        BEGIN
            INSERT INTO turns_text (turns_text, rowid, content)
            SELECT 'delete', old.id, old.content WHERE old.state <> 'streaming';
            INSERT INTO turns_text (rowid, content)
            SELECT new.id, new.content WHERE new.state <> 'streaming';
        END
        """,
        """
        CREATE TRIGGER turns_text_delete AFTER DELETE ON turns
        WHEN old.state <> 'streaming'
        BEGIN
            INSERT INTO turns_text (turns_text, rowid, content)
            VALUES ('delete', old.id, old.content);
        END
        """,
        """
        INSERT INTO turns_text (rowid, content)
        SELECT id, content FROM turns WHERE state <> 'streaming'
        """,
    ),
    (
        # Words separated by line feeds; a JSON object of sampling settings, NULL for the app's own.
        "ALTER TABLE chats ADD COLUMN tags TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE chats ADD COLUMN sampling TEXT",
        # A JSON array of {"name", "text"}: files and pastes that the content refers to.
        "ALTER TABLE turns ADD COLUMN attachments TEXT NOT NULL DEFAULT '[]'",
        """
        CREATE TABLE votes (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            created_s REAL NOT NULL,
            prompt TEXT NOT NULL,
            left_model TEXT NOT NULL,
            left_scheme TEXT NOT NULL,
            left_kv TEXT NOT NULL,
            right_model TEXT NOT NULL,
            right_scheme TEXT NOT NULL,
            right_kv TEXT NOT NULL,
            choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie'))
        )
        """,
    ),
)

LATEST = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database to the latest version; raises StoreError for one from the future."""
    if _version(connection) == LATEST:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        if version > LATEST:
            raise StoreError(
                f"the conversations were written by a newer quantchat (format {version}, "
                f"this one knows {LATEST})",
                hint="upgrade quantchat, or set QUANTCHAT_HOME to another folder",
            )
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {LATEST}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    row = connection.execute("PRAGMA user_version").fetchone()
    version = row[0]
    assert isinstance(version, int)
    return version
