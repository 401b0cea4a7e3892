"""Opening: quick, private, safe beside others, and never at the cost of a damaged file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quantchat.errors import StoreError
from quantchat.store.chats import Chats
from quantchat.store.db import open_database
from quantchat.store.migrations import LATEST, MIGRATIONS

VERSION_1 = """
CREATE TABLE chats (id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL DEFAULT '',
  created_s REAL NOT NULL, updated_s REAL NOT NULL, model TEXT NOT NULL DEFAULT '',
  scheme TEXT NOT NULL DEFAULT '', kv TEXT NOT NULL DEFAULT '',
  system_prompt TEXT NOT NULL DEFAULT '',
  pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)));
CREATE TABLE turns (id INTEGER PRIMARY KEY AUTOINCREMENT,
  chat_id INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
  parent_id INTEGER REFERENCES turns (id) ON DELETE CASCADE,
  role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')), content TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('streaming', 'complete', 'stopped', 'failed')),
  model TEXT NOT NULL DEFAULT '', scheme TEXT NOT NULL DEFAULT '', kv TEXT NOT NULL DEFAULT '',
  metrics TEXT, note TEXT NOT NULL DEFAULT '', created_s REAL NOT NULL, updated_s REAL NOT NULL,
  version INTEGER NOT NULL, active INTEGER NOT NULL CHECK (active IN (0, 1)),
  owner_pid INTEGER, owner_start TEXT);
CREATE UNIQUE INDEX turns_version ON turns (chat_id, ifnull(parent_id, 0), version);
CREATE UNIQUE INDEX turns_active ON turns (chat_id, ifnull(parent_id, 0)) WHERE active = 1;
CREATE INDEX turns_parent ON turns (parent_id);
CREATE INDEX turns_streaming ON turns (id) WHERE state = 'streaming';
CREATE INDEX chats_order ON chats (pinned DESC, updated_s DESC);
INSERT INTO chats VALUES (3, 'Sky', 1.5, 2.5, 'starter', 'int4', 'int8', 'Be kind.', 1);
INSERT INTO turns VALUES
  (5, 3, NULL, 'user', 'Why is the sky blue?', 'complete', '', '', '', NULL, '', 1.5, 1.5, 0, 1,
   NULL, NULL),
  (6, 3, 5, 'assistant', 'Rayleigh scattering.', 'complete', 'starter', 'int4', 'int8',
   '{"ttft_s": 0.5}', '', 1.6, 2.5, 0, 0, NULL, NULL),
  (7, 3, 5, 'assistant', 'Because of the', 'streaming', 'starter', 'int8', 'int8', NULL, '', 1.7,
   2.5, 1, 1, NULL, NULL);
PRAGMA user_version = 1;
"""
"""A file as the first format left it; frozen."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "conversations.db"


def raw(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    return sqlite3.connect(path)


def shape(path: Path) -> list[tuple[str, str]]:
    """Names and statements of everything in the file, blanks aside."""
    connection = raw(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    found = sorted((name, "".join(sql.split())) for name, sql in rows)
    connection.close()
    return found


def test_version_1_comes_up_to_date_with_everything_in_it(path: Path) -> None:
    connection = raw(path)
    connection.executescript(VERSION_1)
    connection.close()
    database = open_database(path)
    chats = Chats(database)
    (chat,) = chats.list()
    assert (chat.id, chat.title, chat.pinned, chat.system_prompt) == (3, "Sky", True, "Be kind.")
    assert [turn.id for turn in chats.path(3)] == [5, 7]
    assert chats.recover() == 1
    assert chats.turn(6).metrics == {"ttft_s": 0.5}
    for query in ("rayleigh", "because of", "sky blue"):
        assert [found.id for found in chats.list(search=query)] == [3]
    chats.delete(3)
    assert chats.list() == ()
    database.close()
    fresh = path.with_name("fresh.db")
    open_database(fresh).close()
    assert shape(path) == shape(fresh), "an upgraded file is a new one"


@pytest.mark.parametrize("version", range(LATEST))
def test_every_version_leads_to_the_latest(path: Path, version: int) -> None:
    connection = raw(path)
    for statements in MIGRATIONS[:version]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()
    database = open_database(path)
    with database.read() as opened:
        assert opened.execute("PRAGMA user_version").fetchone()[0] == LATEST
        assert opened.execute("PRAGMA foreign_key_check").fetchall() == []
    database.close()


def test_a_failed_migration_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = raw(path)
    connection.executescript(VERSION_1)
    connection.close()
    before = shape(path)
    broken = (*MIGRATIONS, ("CREATE TABLE extra (x)", "no such statement"))
    monkeypatch.setattr("quantchat.store.migrations.MIGRATIONS", broken)
    monkeypatch.setattr("quantchat.store.migrations.LATEST", len(broken))
    with pytest.raises(StoreError):
        open_database(path)
    monkeypatch.undo()
    assert shape(path) == before
    open_database(path).close()


def test_a_newer_file_is_left_alone(path: Path) -> None:
    open_database(path).close()
    connection = raw(path)
    connection.execute(f"PRAGMA user_version = {LATEST + 1}")
    connection.close()
    with pytest.raises(StoreError, match="newer quantchat"):
        open_database(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["conversations.db"]


@pytest.mark.parametrize("damage", ["no database", "header", "pages", "cut"])
def test_a_damaged_file_is_moved_aside_whole(path: Path, damage: str) -> None:
    database = open_database(path)
    chats = Chats(database)
    for number in range(50):
        chats.add_turn(chats.create().id, None, "user", f"{number} " * 400)
    database.close()
    data = bytearray(path.read_bytes())
    match damage:
        case "no database":
            data[:] = b"not a database at all, but long enough to be looked at" * 100
        case "header":
            data[:16] = b"\xff" * 16
        case "pages":
            data[4096:] = b"\xa5" * (len(data) - 4096)
        case "cut":
            del data[5000:]
    path.write_bytes(data)
    database = open_database(path)
    (warning,) = database.warnings
    (aside,) = path.parent.glob("conversations.broken-*.db")
    assert aside.name in warning and aside.read_bytes() == bytes(data)
    chats = Chats(database)
    assert chats.list() == ()
    chats.create(title="goes on")
    database.close()
    again = open_database(path)
    assert again.warnings == () and [chat.title for chat in Chats(again).list()] == ["goes on"]
    again.close()


def test_damage_met_later_is_an_error_with_a_way_out(path: Path) -> None:
    database = open_database(path)
    chats = Chats(database)
    first = chats.create()
    chats.add_turn(first.id, None, "user", "x" * 100_000)
    for number in range(50):
        chats.add_turn(chats.create().id, None, "user", f"{number} " * 400)
    database.close()
    data = bytearray(path.read_bytes())
    start = data.index(b"x" * 4000)
    data[start : start + 40_000] = b"\xff" * 40_000
    path.write_bytes(data)
    database = open_database(path)
    with pytest.raises(StoreError) as caught:
        Chats(database).path(first.id)
    assert caught.value.hint
    assert database.warnings == (), "opening stays quick: it does not read everything"
    database.close()


def test_two_connections_write_in_turn(path: Path) -> None:
    one, two = open_database(path), open_database(path)
    chat = Chats(one).create()
    turns = [
        Chats(database).add_turn(chat.id, None, "assistant", state="streaming")
        for database in (one, two)
    ]
    for number in range(100):
        for database, turn in zip((one, two), turns, strict=True):
            Chats(database).append_text(turn.id, f"{number} ")
    wanted = "".join(f"{number} " for number in range(100))
    assert [turn.content for turn in Chats(two).siblings(turns[0].id)] == [wanted, wanted]
    assert [turn.version for turn in Chats(one).siblings(turns[0].id)] == [0, 1]
    one.close()
    two.close()


def test_a_reader_does_not_wait_for_a_writer(path: Path) -> None:
    one, two = open_database(path), open_database(path)
    Chats(one).create(title="there")
    with one.write() as connection:
        connection.execute("UPDATE chats SET title = 'not yet'")
        assert [chat.title for chat in Chats(two).list()] == ["there"]
    assert [chat.title for chat in Chats(two).list()] == ["not yet"]
    one.close()
    two.close()


def test_many_processes_may_begin_the_same_file(path: Path) -> None:
    code = (
        "import sys, pathlib; from quantchat.store.db import open_database; "
        "from quantchat.store.chats import Chats; "
        "Chats(open_database(pathlib.Path(sys.argv[1]))).create(title=sys.argv[2])"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(number)])
        for number in range(5)
    ]
    assert [child.wait(60) for child in children] == [0] * 5
    database = open_database(path)
    assert sorted(chat.title for chat in Chats(database).list()) == list("01234")
    assert list(path.parent.glob("*broken*")) == []
    database.close()


def test_a_failed_write_leaves_the_database_usable(path: Path) -> None:
    database = open_database(path)
    chats = Chats(database)
    chat = chats.create(title="a")
    with pytest.raises(RuntimeError, match="in between"), database.write() as connection:
        connection.execute("UPDATE chats SET title = 'b'")
        raise RuntimeError("in between")
    assert chats.get(chat.id).title == "a"
    database.close()
    database.close()
    with pytest.raises(StoreError, match="closed"):
        chats.get(chat.id)


def test_the_file_is_the_user_s_alone(path: Path) -> None:
    database = open_database(path)
    Chats(database).create()
    for entry in path.parent.iterdir():
        assert entry.stat().st_mode & 0o077 == 0, entry.name
    database.close()


def test_a_folder_in_the_way_is_a_plain_error(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreError) as caught:
        open_database(path)
    assert caught.value.hint


def test_opening_takes_milliseconds(path: Path) -> None:
    database = open_database(path)
    chats = Chats(database)
    for _ in range(20):
        chats.add_turn(chats.create().id, None, "user", "word " * 2000)
    database.close()

    def seconds() -> float:
        started_s = time.process_time()
        open_database(path).close()
        return time.process_time() - started_s

    assert min(seconds() for _ in range(5)) < 0.05
