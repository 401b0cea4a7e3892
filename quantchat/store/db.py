"""The SQLite file: opened, checked, brought up to date, locked for one thread at a time.

Write-ahead log, so that a reader never waits and a killed process loses nothing it committed.
Long searches have a connection of their own and hold up nobody.
Owns the connections; does not own what the tables mean (chats) or their shape (migrations).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from quantchat.errors import Cancelled, StoreError
from quantchat.store.migrations import migrate
from quantchat.store.search import FOLD

BUSY_TIMEOUT_S = 10.0
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_STEPS = 20_000
"""Of SQLite's machine between two questions whether a search is still wanted: about 1 ms."""


class Database:
    """One open database; every thread may use it, one at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection, warnings: tuple[str, ...]):
        self.path = path
        self.warnings = warnings
        """What happened at opening that the user should know."""
        self._connection = connection
        self._lock = threading.RLock()
        self._searching: sqlite3.Connection | None = None
        self._search_lock = threading.RLock()
        self._closed = False

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view; raises StoreError."""
        with self._transaction("BEGIN DEFERRED") as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, alone among writers; raises StoreError."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextlib.contextmanager
    def search(self, unwanted: Callable[[], bool] = lambda: False) -> Iterator[sqlite3.Connection]:
        """One consistent view beside the writers; raises StoreError, Cancelled once `unwanted`."""
        with self._search_lock:
            try:
                if self._searching is None and not self._closed:
                    self._searching = _connect(self.path)
                    self._searching.execute("PRAGMA query_only = ON")
                connection = self._open_one(self._searching)
                connection.set_progress_handler(unwanted, _STEPS)
            except sqlite3.Error as error:
                raise _store_error(self.path, error) from error
            with self._within(connection, "BEGIN DEFERRED"):
                yield connection

    def close(self) -> None:
        """Finish; safe to call twice."""
        self._closed = True
        with self._search_lock:
            if self._searching is not None:
                self._searching.close()
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._within(self._open_one(self._connection), begin) as connection:
            yield connection

    def _open_one(self, connection: sqlite3.Connection | None) -> sqlite3.Connection:
        if self._closed or connection is None:
            raise StoreError("the conversations are closed")
        return connection

    @contextlib.contextmanager
    def _within(self, connection: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            if _code(error) == sqlite3.SQLITE_INTERRUPT:
                raise Cancelled("the search was given up") from error
            raise _store_error(self.path, error) from error


def open_database(path: Path) -> Database:
    """Open or create; a broken file is moved aside, never deleted; raises StoreError."""
    warnings: tuple[str, ...] = ()
    try:
        try:
            connection = _open(path)
        except sqlite3.DatabaseError as error:
            if _code(error) not in _CORRUPT:
                raise
            aside = _move_aside(path)
            warnings = (
                f"{path.name} was damaged ({error}); it was kept as {aside.name} "
                "and a new one was begun",
            )
            connection = _open(path)
    except sqlite3.Error as error:
        raise _store_error(path, error) from error
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be opened: {error.strerror or error}",
            hint="check the folder's permissions, or set QUANTCHAT_HOME to another folder",
        ) from error
    return Database(path, connection, warnings)


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = _connect(path)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = FAST")
        _use_write_ahead_log(connection)
        migrate(connection)
        connection.execute("SELECT * FROM chats ORDER BY updated_s DESC LIMIT 1").fetchone()
        connection.execute("SELECT * FROM turns ORDER BY id DESC LIMIT 1").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    connection.create_function(FOLD, 1, str.casefold, deterministic=True)
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Two instances starting at once may collide here, where SQLite does not wait by itself."""
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _code(error) not in _BUSY or time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)


def _move_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        aside = path.with_name(f"{path.stem}.broken-{stamp}-{number}{path.suffix}")
        if not aside.exists():
            break
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    return aside


def _code(error: sqlite3.Error) -> int:
    """The primary result code; errors raised by the module itself carry none."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else code & 0xFF


def _store_error(path: Path, error: sqlite3.Error) -> StoreError:
    code = _code(error)
    if code in _CORRUPT:
        hint = "restart quantchat: a damaged file is moved aside, not deleted"
    elif code in _BUSY:
        hint = "another program holds the file; close it and try again"
    elif code == sqlite3.SQLITE_FULL:
        hint = "the disk is full"
    else:
        hint = "check the folder's permissions and free space"
    return StoreError(f"{path.name}: {error}", hint=hint)
