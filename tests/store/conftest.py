"""A fresh database per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quantchat.store.chats import Chats
from quantchat.store.db import Database, open_database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "conversations.db")
    yield opened
    opened.close()


@pytest.fixture
def chats(database: Database) -> Chats:
    return Chats(database)
