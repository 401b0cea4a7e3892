"""kill -9 while an answer streams: what is lost of it, and that nothing else is."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quantchat.store.chats import Chats
from quantchat.store.db import open_database

NURSERY = Path(__file__).with_name("streaming_app.py")
MISSING_S = 0.1
PUNCTUAL_S = 0.25
"""An app that had the processor whenever it wanted for so long is judged by what it lost."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork and a shared clock")


@contextmanager
def nursery(folder: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, str(NURSERY), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        yield child
    finally:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.close()
        child.wait(30)
        child.stdout.close()


def kill_one(folder: Path, apps: subprocess.Popen[str], chats: Chats, wait_s: float) -> float:
    """Let one app stream for a while and kill it; seconds of text that are missing.

    0 where the machine had kept it waiting: no pace of storing helps there.
    """
    assert apps.stdin is not None and apps.stdout is not None
    apps.stdin.write("go\n")
    pid, turn_id, first_due_s, tok_per_s = apps.stdout.readline().split()
    time.sleep(wait_s)
    killed_s = time.perf_counter()
    os.kill(int(pid), signal.SIGKILL)
    assert apps.stdout.readline() == "dead\n"
    turn = chats.turn(int(turn_id))
    pieces = turn.content.split()
    assert turn.state == "streaming"
    assert turn.content == "".join(f"{number} " for number in range(len(pieces)))
    ran_s, late_s = struct.unpack("dd", (folder / "pulse").read_bytes())
    if killed_s - late_s < PUNCTUAL_S or killed_s - ran_s > PUNCTUAL_S / 10:
        return 0.0
    return max(0.0, killed_s - (float(first_due_s) + len(pieces) / float(tok_per_s)))


def kill_many(folder: Path, rounds: int) -> list[float]:
    """Kill so many apps on one database; what each lost, in seconds."""
    chance = random.Random(11)
    database = open_database(folder / "conversations.db")
    chats = Chats(database)
    kept: dict[int, str] = {}
    missing_s = []
    with nursery(folder) as apps:
        for number in range(rounds):
            missing_s.append(kill_one(folder, apps, chats, chance.uniform(0.0, 0.8)))
            assert chats.recover() == 1
            listed = chats.list(limit=rounds + 1)
            assert len(listed) == number + 1, "no conversation is lost, none is added"
            question, answer = chats.path(listed[0].id)
            assert (question.content, answer.state) == ("Count.", "stopped")
            kept[answer.id] = answer.content
            assert {key: chats.turn(key).content for key in kept} == kept
            with database.write() as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
                assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
                connection.execute(
                    "INSERT INTO turns_text (turns_text, rank) VALUES ('integrity-check', 1)"
                )
            if len(answer.content) > 20:
                assert listed[0].id in {
                    chat.id for chat in chats.list(limit=rounds, search=answer.content[-12:-1])
                }
    database.close()
    return missing_s


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_9_at_any_moment_loses_a_tenth_of_a_second_at_most(tmp_path: Path) -> None:
    """`make kills` does it two hundred times."""
    missing_s = sorted(kill_many(tmp_path, int(os.environ.get("QUANTCHAT_KILLS", "25"))))
    assert missing_s[-1] <= MISSING_S, f"the latest seconds missing, in order: {missing_s[-20:]}"
