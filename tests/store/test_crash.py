"""What a killed process leaves, and what other instances must not touch."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quantchat.store import chats as chats_module
from quantchat.store import owner as owner_module
from quantchat.store.chats import ABANDONED_S, Chats
from quantchat.store.db import Database, open_database
from quantchat.store.owner import Owner, life_of, this_process

STREAMER = Path(__file__).with_name("streamer.py")
ROUNDS, WRITERS = 5, 4


def start_streamer(path: Path, chat_id: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(STREAMER), str(path), str(chat_id)], stdout=subprocess.PIPE, text=True
    )


def kill(child: subprocess.Popen[str]) -> list[int]:
    """Kill -9; the numbers that the child had printed."""
    child.send_signal(signal.SIGKILL)
    assert child.stdout is not None
    with child.stdout as lines:
        numbers = [int(line) for line in lines if line.endswith("\n")]
    child.wait()
    return numbers


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_kill_9_at_random_moments_loses_nothing_that_was_stored(
    database: Database, chats: Chats
) -> None:
    chance = random.Random(7)
    for _ in range(ROUNDS):
        chat = chats.create()
        children = [start_streamer(database.path, chat.id) for _ in range(WRITERS)]
        turn_ids: list[int] = []
        for child in children:
            assert child.stdout is not None
            turn_ids.append(int(child.stdout.readline()))
        assert chats.recover() == 0, "their writers live"
        for child, turn_id in zip(children, turn_ids, strict=True):
            time.sleep(chance.uniform(0.0, 0.03))
            stored = kill(child)
            turn = chats.turn(turn_id)
            pieces = turn.content.split()
            assert turn.state == "streaming"
            assert pieces == [str(number) for number in range(len(pieces))]
            assert len(pieces) >= len(stored)
        assert chats.recover() == WRITERS
        assert {turn.state for turn in chats.siblings(turn_ids[0])} == {"stopped"}
        with database.read() as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_recover_leaves_a_live_instance_alone(database: Database, chats: Chats) -> None:
    chat = chats.create()
    mine = chats.add_turn(chat.id, None, "assistant", "mine", state="streaming")
    dead, alive = (start_streamer(database.path, chat.id) for _ in range(2))
    try:
        ids = []
        for child in (dead, alive):
            assert child.stdout is not None
            ids.append(int(child.stdout.readline()))
        kill(dead)
        other = open_database(database.path)
        assert Chats(other).recover() == 1
        other.close()
        assert chats.turn(ids[0]).state == "stopped"
        assert chats.turn(ids[0]).note
        assert chats.turn(ids[1]).state == chats.turn(mine.id).state == "streaming"
    finally:
        kill(alive)
    chats.append_text(mine.id, " goes on")
    assert chats.turn(mine.id).content == "mine goes on"


def test_a_writer_taken_for_gone_by_mistake_goes_on(
    chats: Chats, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = chats.create()
    turn = chats.add_turn(chat.id, None, "assistant", "half ", state="streaming")
    with monkeypatch.context() as patch:
        patch.setattr(chats_module, "life_of", lambda owner: "gone")
        assert chats.recover() == 1
    assert chats.turn(turn.id).state == "stopped"
    chats.append_text(turn.id, "the rest")
    assert chats.finish_turn(turn.id, "complete", "half the rest").state == "complete"
    assert [found.id for found in chats.list(search="the rest")] == [chat.id]


def test_a_writer_elsewhere_is_given_time(
    database: Database, chats: Chats, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = chats.create()
    chats.add_turn(chat.id, None, "assistant", state="streaming")
    monkeypatch.setattr(chats_module, "life_of", lambda owner: "elsewhere")
    assert chats.recover() == 0
    with database.write() as connection:
        connection.execute("UPDATE turns SET updated_s = updated_s - ?", (ABANDONED_S + 1,))
    assert chats.recover() == 1


def test_this_process_lives() -> None:
    assert this_process().pid == os.getpid()
    assert life_of(this_process()) == "alive"


def test_a_process_id_that_came_back_is_another_process() -> None:
    me = this_process()
    host_to_namespace, _, ticks = me.start.rpartition("/")
    earlier = f"{host_to_namespace}/{int(ticks) - 1}" if ticks and "/" in me.start else "0.0"
    assert life_of(Owner(pid=me.pid, start=earlier)) == "gone"


def test_a_process_that_ended_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = owner_module._start(child.pid)
    assert start is not None
    owner = Owner(pid=child.pid, start=start)
    assert life_of(owner) == "alive"
    child.kill()
    deadline_s = time.monotonic() + 10
    while life_of(owner) == "alive" and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert life_of(owner) == "gone", "a zombie counts as gone"
    child.wait()
    assert life_of(owner) == "gone"


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_other_places_cannot_be_judged_from_here() -> None:
    host, boot, namespace, ticks = this_process().start.split("/")
    pid = os.getpid()
    assert life_of(Owner(pid=pid, start=f"{host}/{boot}/1/{ticks}")) == "elsewhere"
    assert life_of(Owner(pid=pid, start=f"other/{boot}/{namespace}/{ticks}")) == "elsewhere"
    assert life_of(Owner(pid=pid, start=f"{host}/other/{namespace}/{ticks}")) == "gone"
    assert life_of(Owner(pid=pid, start="garbage")) == "elsewhere"


def test_without_proc_the_clock_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_module, "_has_proc", lambda: False)
    start = owner_module._start(os.getpid())
    assert start is not None and float(start) <= time.time() + 1
    assert life_of(Owner(pid=os.getpid(), start=start)) == "alive"
    assert life_of(Owner(pid=os.getpid(), start=str(float(start) - 60))) == "gone"
    assert life_of(Owner(pid=os.getpid(), start="a/b/c/d")) == "elsewhere"
