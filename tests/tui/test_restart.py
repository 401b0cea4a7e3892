"""What was said is there again: after quitting, and after a process that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from app_support import answered, ask, make_app, ready, shown, wait_until
from fakes import FakeEngine, Script

from quantchat.store.chats import Chats
from quantchat.store.db import open_database
from quantchat.tui import bridge

KILLED = """
import sys, time
sys.path.insert(0, {support!r})
from app_support import make_app
from fakes import FakeEngine, Script
from pathlib import Path
import asyncio

async def main():
    app = make_app(Path({folder!r}), FakeEngine([Script("word and word", endless=True)]))
    async with app.run_test(size=(100, 30)) as pilot:
        while not app.loads.ready:
            await pilot.pause(0.01)
        app.send("keep this")
        while True:
            await pilot.pause(0.01)

asyncio.run(main())
"""


async def test_a_quit_app_finds_its_conversation_again(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "remember me")
        await answered(pilot, app, 2)
    again = make_app(tmp_path)
    async with again.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: "remember me" in shown(again))
        assert "The sky is blue." in shown(again)
        await ready(pilot, again)
        await ask(pilot, again, "more")
        await answered(pilot, again, 4)


async def test_text_is_stored_before_it_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(tmp_path, FakeEngine([Script("some words", endless=True)]))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        # As slow as drawing may get: what is stored does not wait for it.
        monkeypatch.setattr(bridge, "LONGEST_S", 60.0)
        app.bridge.shortest_s = app.bridge.interval_s = 60.0
        await ask(pilot, app, "go on")
        await wait_until(pilot, lambda: app.conversation.answering)
        answering = app.conversation.answering
        assert answering is not None
        await wait_until(pilot, lambda: "words" in app.chats.turn(answering.turn.id).content)
        assert answering.text == ""


@pytest.mark.parametrize("left", [False, True])
async def test_quitting_keeps_what_came_and_was_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    engine = FakeEngine([Script("word " * 40, endless=True), Script("It is so.")])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        app.conversation.new()
        monkeypatch.setattr(bridge, "LONGEST_S", 60.0)
        app.bridge.shortest_s = app.bridge.interval_s = 60.0
        turns = []
        for text in ("go on", "is it so?"):
            app.send(text)
            answering = app.conversation.answering
            assert answering is not None and answering.text == ""
            turns.append(answering.turn.id)
            if text == "go on":
                await wait_until(pilot, lambda: "word word" in app.chats.turn(turns[0]).content)
                if not left:
                    break
                app.conversation.new()
            else:
                await wait_until(pilot, lambda: not engine._answers)
        kept = app.chats.turn(turns[0]).content
    chats = Chats(open_database(tmp_path / "conversations.db"))
    first = chats.turn(turns[0])
    assert first.content.startswith(kept) and first.state == "stopped"
    if left:
        assert chats.turn(turns[1]).content == "It is so."
        assert chats.turn(turns[1]).state == "complete"


async def test_an_answer_left_in_an_engine_that_hangs_takes_nothing_of_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine([Script("word " * 40, endless=True)])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "go on")
        await wait_until(pilot, lambda: "word word" in shown(app))
        answering = app.conversation.answering
        assert answering is not None
        monkeypatch.setattr(engine, "drain", list)
        app.conversation.new()
        app.restart_engine()
        await ready(pilot, app)
        await ask(pilot, app, "and now?")
        await answered(pilot, app, 2)
        assert app.conversation.path[-1].state == "complete"
        left = app.chats.turn(answering.turn.id)
        assert left.state == "failed" and left.content.startswith("word word")


async def test_an_engine_that_is_started_anew_loses_nothing_that_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(tmp_path, FakeEngine([Script("word " * 40, endless=True)]))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        monkeypatch.setattr(bridge, "LONGEST_S", 60.0)
        app.bridge.shortest_s = app.bridge.interval_s = 60.0
        app.send("go on")
        answering = app.conversation.answering
        assert answering is not None
        turn_id = answering.turn.id
        await wait_until(pilot, lambda: "word word" in app.chats.turn(turn_id).content)
        kept = app.chats.turn(turn_id).content
        app.restart_engine()
        await wait_until(pilot, lambda: app.chats.turn(turn_id).state == "failed")
        assert app.chats.turn(turn_id).content.startswith(kept)


async def test_quitting_while_it_streams_keeps_the_text(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("some words", endless=True)]))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "go")
        await wait_until(pilot, lambda: "some words" in shown(app))
    chats = Chats(open_database(tmp_path / "conversations.db"))
    last = chats.path(chats.list()[0].id)[-1]
    assert last.content.startswith("some words") and last.state != "streaming"


async def test_a_killed_app_loses_no_conversation(tmp_path: Path) -> None:
    support = Path(__file__).resolve().parent.parent / "support"
    script = KILLED.format(support=str(support), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    try:
        chats = Chats(open_database(tmp_path / "conversations.db"))
        deadline = time.monotonic() + 60
        while not (chats.list() and len(chats.path(chats.list()[0].id)[-1].content) > 40):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: "word and word" in shown(app))
        assert "keep this" in shown(app) and "ended while it streamed" in shown(app)
        assert app.conversation.path[-1].state == "stopped"
        assert any("cut off" in each.message for each in app._notifications)
