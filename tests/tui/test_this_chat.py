"""The open conversation as a whole: pinned, deleted and brought back, by commands and palette."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_support import answered, ask, make_app, ready, wait_until
from fakes import FakeEngine, Script
from textual.pilot import Pilot

from quantchat.tui.app import QuantchatApp
from quantchat.tui.control import slash
from quantchat.tui.control.completing import command_offers


def said(app: QuantchatApp) -> str:
    return " ".join(each.message for each in app._notifications)


async def command(pilot: Pilot[None], app: QuantchatApp, text: str) -> None:
    app.chat_screen.prompt.fill(text)
    # A blank after it closes the list of commands.
    await pilot.press("space", "enter")
    await wait_until(pilot, lambda: not app.chat_screen.prompt.text)


async def test_the_open_conversation_is_pinned_deleted_and_brought_back(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("blue")]))
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        for name in ("/pin", "/delete", "/undelete"):
            await command(pilot, app, name)
        await wait_until(pilot, lambda: "Nothing was deleted." in said(app))
        assert "nothing to pin" in said(app) and "nothing to delete" in said(app)
        await ask(pilot, app, "Which colour?")
        await answered(pilot, app, 2)
        chat = app.conversation.chat
        assert chat is not None
        await command(pilot, app, "/pin")
        await wait_until(pilot, lambda: app.chats.get(chat.id).pinned)
        assert app.conversation.chat is not None and app.conversation.chat.pinned
        await command(pilot, app, "/pin")
        await wait_until(pilot, lambda: not app.chats.get(chat.id).pinned)
        await command(pilot, app, "/delete")
        await wait_until(pilot, lambda: app.conversation.chat is None and not app.chats.list())
        assert "“Which colour?”" in said(app) and "/undelete" in said(app)
        await command(pilot, app, "/undelete")
        await wait_until(pilot, lambda: app.conversation.title == "Which colour?")
        assert [turn.role for turn in app.conversation.path] == ["user", "assistant"]


async def test_a_deletion_beside_a_running_answer_does_not_stop_another(tmp_path: Path) -> None:
    engine = FakeEngine([Script("blue"), Script("red", endless=True)])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "first")
        await answered(pilot, app, 2)
        app.action_delete_chat()
        await ask(pilot, app, "second")
        await wait_until(pilot, lambda: app.conversation.answering is not None)
        app.action_undelete()
        await wait_until(pilot, lambda: len(app.chats.list()) == 2)
        assert app.conversation.title == "second" and app.conversation.answering is not None


async def test_they_are_in_the_palette(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        names = [each.title for each in app.get_system_commands(app.screen)]
    for name in (
        "Pin this conversation",
        "Delete this conversation",
        "Bring back a deleted conversation",
        "Previous version of the answer",
        "Next version of the answer",
    ):
        assert name in names


@pytest.mark.parametrize(
    ("typed", "name"),
    [("clear", "new"), ("exit", "quit"), ("resume", "chats"), ("again", "retry")],
)
def test_names_that_commands_have_elsewhere_are_known(typed: str, name: str) -> None:
    found = slash.find(typed)
    assert found is not None and found.name == name
    assert command_offers(f"/{typed}")[0].text == f"/{name}"


def test_no_name_stands_for_two_commands() -> None:
    names = [name for each in slash.COMMANDS for name in (each.name, *each.also)]
    assert len(set(names)) == len(names)
