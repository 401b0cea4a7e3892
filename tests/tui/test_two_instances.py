"""Two apps on one data folder, chatting at the same time: both conversations are whole."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from instance import __file__ as instance_file
from instance import answer, question, ready_file

from quantchat import paths
from quantchat.settings.file import load_settings
from quantchat.store.chats import Chats
from quantchat.store.db import open_database

NAMES = ("ada", "bob")
EXCHANGES = 6
TIMEOUT_S = 120


def test_both_conversations_are_whole(isolated_home: Path) -> None:
    processes = []
    for name, other in (NAMES, NAMES[::-1]):
        processes.append(
            subprocess.Popen(
                [sys.executable, instance_file, name, other, str(EXCHANGES)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        # The second one opens while the first one's answer streams.
        until_s = time.monotonic() + TIMEOUT_S
        while not ready_file(name).exists():
            assert processes[-1].poll() is None, processes[-1].communicate()[1]
            assert time.monotonic() < until_s
            time.sleep(0.05)
    results = []
    for process in processes:
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, err
        results.append(json.loads(out.strip().splitlines()[-1]))

    database = open_database(paths.database_file())
    assert database.warnings == ()
    chats = Chats(database)
    assert {chat.id for chat in chats.list()} == {result["chat"] for result in results}
    for name, result in zip(NAMES, results, strict=True):
        assert result["said"] == []
        assert chats.get(result["chat"]).title == f"{name}'s own"
        path = chats.path(result["chat"])
        assert [turn.content for turn in path] == [
            text
            for number in range(EXCHANGES)
            for text in (question(name, number), answer(name, number))
        ]
        assert all(turn.state == "complete" and turn.versions == 1 for turn in path)
        found = chats.list(search=f"{name}3-7")
        assert [chat.id for chat in found] == [result["chat"]]
    database.close()
    with sqlite3.connect(paths.database_file()) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    _, warnings = load_settings(paths.settings_file())
    assert not warnings
