"""Conversations that another instance changed meanwhile, and what was used last."""

from __future__ import annotations

from pathlib import Path

from app_support import answered, ask, make_app, ready, shown, wait_until
from list_support import fill, in_front, opened, titles

from quantchat.store.chats import Chats
from quantchat.store.db import open_database
from quantchat.tui.screens.dialog import Dialog


async def test_a_conversation_deleted_elsewhere_says_so_and_keeps_the_message(
    tmp_path: Path,
) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "one")
        await answered(pilot, app, 2)
        assert app.conversation.chat is not None
        elsewhere = Chats(open_database(tmp_path / "conversations.db"))
        elsewhere.delete(app.conversation.chat.id)
        await pilot.press("ctrl+r")
        await in_front(pilot, app, Dialog)
        await pilot.press("escape")
        assert len(app.conversation.path) == 2 and "The sky is blue." in shown(app)
        await ask(pilot, app, "two")
        await in_front(pilot, app, Dialog)
        assert "was deleted" in str(app.screen.query_one("#message").render())
        await pilot.press("escape")
        assert app.chat_screen.prompt.text == "two"
        elsewhere.undelete()
        await pilot.press("enter")
        await answered(pilot, app, 4)


async def test_the_list_shows_what_another_instance_did(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    app = make_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(pilot, app, 1)
        await pilot.press("escape")
        fill(tmp_path, "b")
        rows = await opened(pilot, app, 2)
        assert titles(rows) == ["b", "a"]
        Chats(open_database(tmp_path / "conversations.db")).delete(*(c.chat.id for c in rows.found))
        await pilot.press("ctrl+home", "enter")
        await wait_until(pilot, lambda: app.conversation.title == "b")
        await ask(pilot, app, "on")
        await in_front(pilot, app, Dialog)
        await pilot.press("escape")
        await opened(pilot, app, 0)


async def test_a_conversation_that_goes_on_elsewhere_becomes_two_branches(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "one")
        await answered(pilot, app, 2)
        app.writer.flush()
        chat = app.conversation.chat
        assert chat is not None
        elsewhere = Chats(open_database(tmp_path / "conversations.db"))
        last = elsewhere.path(chat.id)[-1]
        theirs = elsewhere.add_turn(chat.id, last.id, "user", "said elsewhere")
        elsewhere.rename(chat.id, "renamed elsewhere")
        await ask(pilot, app, "said here")
        await answered(pilot, app, 4)
        app.writer.flush()
        assert app.conversation.title == "renamed elsewhere"
        here = elsewhere.path(chat.id)
        assert [turn.content for turn in here][2] == "said here"
        versions = elsewhere.siblings(theirs.id)
        assert [turn.content for turn in versions] == ["said elsewhere", "said here"]
        app.conversation.flip(here[2].id, -1)
        assert app.conversation.path[-1].content == "said elsewhere"


async def test_the_app_opens_what_was_used_last(tmp_path: Path) -> None:
    ids = fill(tmp_path, "pinned", "latest")
    Chats(open_database(tmp_path / "conversations.db")).pin(ids[0], True)
    app = make_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await wait_until(pilot, lambda: app.conversation.title == "latest")
