"""What models wrote, on a terminal and in a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quantchat import paths
from quantchat.store.chats import Chats
from quantchat.store.db import open_database

if sys.platform == "win32":
    pytest.skip("needs terminals of POSIX", allow_module_level=True)

import pty

HOSTILE = "a\x1b]52;c;ZXZpbA==\x07b\x9b2Jc\u202ed"
COMMAND = [sys.executable, "-P", "-m", "quantchat", "chats"]


def test_text_of_a_model_steers_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTCHAT_HOME", str(tmp_path))
    database = open_database(paths.database_file())
    chats = Chats(database)
    chat = chats.create()
    chats.add_turn(chat.id, None, "user", HOSTILE)
    database.close()
    command = [*COMMAND, "show", str(chat.id)]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    drawn = b""
    try:
        while part := os.read(ours, 65536):
            drawn += part
    except OSError:
        pass  # The other side is closed.
    os.close(ours)
    assert process.wait(60) == 0
    assert "a]52;c;ZXZpbA==b2Jcd" in drawn.decode()
    piped = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert HOSTILE in piped.stdout.decode()
