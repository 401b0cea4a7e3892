"""Turns that are chosen: edited into branches, flipped, copied, folded, by key and by mouse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from app_support import answered, ask, drawn, fake, make_app, ready, shown, wait_until
from fakes import FakeEngine, Script
from textual.events import Key
from textual.pilot import Pilot

from quantchat.tui import clipboard
from quantchat.tui.app import QuantchatApp
from quantchat.tui.widgets.bars import KeyBar

SIZE = (120, 40)
THINKS = "<think>\nFirst this, then that.\n</think>\n\nIt is blue."


async def talked(pilot: Pilot[None], app: QuantchatApp, *questions: str) -> None:
    await ready(pilot, app)
    for number, question in enumerate(questions):
        await ask(pilot, app, question)
        await answered(pilot, app, 2 * number + 2)


def said(app: QuantchatApp) -> list[str]:
    return [turn.content for turn in app.conversation.path]


def chosen(app: QuantchatApp) -> str | None:
    key = app.chat_screen.transcript.stack.chosen
    turn = None if key is None else app.conversation.turn_of(key)
    return turn.content if turn is not None else None


async def click(pilot: Pilot[None], app: QuantchatApp, word: str, line: str) -> None:
    """A click on a word in the first drawn line that has both."""
    await drawn(app)
    transcript = app.chat_screen.transcript
    row = next(
        at for at, text in enumerate(shown(app).split("\n")) if line in text and word in text
    )
    column = shown(app).split("\n")[row].index(word) + transcript._margin(transcript.size.width)
    top = int(transcript.scroll_y) - transcript.styles.padding.top
    assert await pilot.click(transcript, offset=(column, row - top))


async def test_a_question_is_edited_and_begins_a_branch(tmp_path: Path) -> None:
    engine = FakeEngine([Script("One."), Script("Two."), Script("New one.")])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=SIZE) as pilot:
        await talked(pilot, app, "first", "second")
        app.chat_screen.prompt.text = "a draft"
        for content in ("Two.", "second", "One.", "first", "first"):
            await pilot.press("ctrl+up")
            await wait_until(pilot, lambda content=content: chosen(app) == content)
        assert app.chat_screen.transcript.has_focus
        keys = app.chat_screen.query_one(KeyBar)
        await wait_until(pilot, lambda: "e edit" in keys.render().plain)
        row = app.chat_screen.transcript.render_line(0)
        assert "┃▌ first" in row.text
        await pilot.press("e")
        prompt, note = app.chat_screen.prompt, app.chat_screen.note
        await wait_until(pilot, lambda: prompt.has_focus and prompt.text == "first")
        assert "editing your message" in note.text
        await pilot.press("!", "enter")
        await answered(pilot, app, 2)
        assert said(app) == ["first!", "New one."] and "2/2" in shown(app)
        assert [message.content for message in fake(app).chats[-1].messages] == ["first!"]
        assert prompt.text == "a draft" and not note.display
        await pilot.press("ctrl+up", "ctrl+up", "left")
        await wait_until(pilot, lambda: said(app) == ["first", "One.", "second", "Two."])
        assert chosen(app) == "first"
        await pilot.press("right")
        await wait_until(pilot, lambda: said(app) == ["first!", "New one."])
        await pilot.press("escape")
        await wait_until(pilot, lambda: prompt.has_focus)
        assert chosen(app) is None


async def test_keys_that_come_together_reach_the_chosen_message(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("One.")]))
    async with app.run_test(size=SIZE) as pilot:
        await talked(pilot, app, "first")
        for name, character in (("ctrl+up", None), ("ctrl+up", None), ("e", "e")):
            key = Key(name, character)
            key.set_sender(app)
            app.post_message(key)
        prompt = app.chat_screen.prompt
        await wait_until(pilot, lambda: bool(prompt.text))
        assert prompt.text == "first", "not the letter"


async def test_an_edit_is_given_up_with_escape(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await talked(pilot, app, "first")
        await pilot.press("ctrl+up", "enter")
        prompt = app.chat_screen.prompt
        await wait_until(pilot, lambda: prompt.text == "The sky is blue.")
        assert "editing the answer" in app.chat_screen.note.text
        await pilot.press("x", "escape")
        await wait_until(pilot, lambda: prompt.text == "")
        assert said(app) == ["first", "The sky is blue."] and not app.chat_screen.note.display
        await pilot.press("ctrl+up", "ctrl+down")
        await wait_until(pilot, lambda: prompt.has_focus)


async def test_an_edited_answer_is_gone_on_with(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("It is green."), Script(" because of light.")]))
    async with app.run_test(size=SIZE) as pilot:
        await talked(pilot, app, "why")
        await pilot.press("ctrl+up", "e")
        prompt = app.chat_screen.prompt
        await wait_until(pilot, lambda: prompt.text == "It is green.")
        prompt.text = "It is blue"
        await pilot.press("enter")
        await wait_until(pilot, lambda: said(app) == ["why", "It is blue"])
        assert "edited" in shown(app) and len(fake(app).chats) == 1
        await pilot.press("ctrl+g")
        await answered(pilot, app, 2)
        assert said(app) == ["why", "It is blue because of light."] and "3/3" in shown(app)
        request = fake(app).chats[-1]
        assert request.continue_last and request.messages[-1].content == "It is blue"


async def test_files_of_an_edited_message_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a.md"
    file.write_text("old words")
    app = make_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await talked(pilot, app, "read @a.md")
        file.unlink()
        await pilot.press("ctrl+up", "ctrl+up", "space")
        await wait_until(pilot, lambda: "old words" in shown(app))
        await pilot.press("e", "!", "enter")
        await wait_until(pilot, lambda: said(app)[0] == "read @a.md!")
        await answered(pilot, app, 2)
        assert app.conversation.path[0].attachments[0].text == "old words"
        assert "old words" in fake(app).chats[-1].messages[0].content


async def test_nothing_is_edited_or_flipped_while_an_answer_streams(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("One."), Script("on and on", endless=True)]))
    async with app.run_test(size=SIZE) as pilot:
        await talked(pilot, app, "first")
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: "on and on" in shown(app))
        await pilot.press("ctrl+up", "e", "left")
        await wait_until(pilot, lambda: len(app._notifications) >= 2)
        assert app.chat_screen.composing.editing is None and len(said(app)) == 2
        await pilot.press("escape", "escape")
        await answered(pilot, app, 2)


async def test_a_new_conversation_ends_the_edit(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await talked(pilot, app, "first")
        await pilot.press("ctrl+up", "e")
        await wait_until(pilot, lambda: app.chat_screen.composing.editing is not None)
        await pilot.press("ctrl+n")
        await wait_until(pilot, lambda: app.chat_screen.composing.editing is None)
        assert app.chat_screen.prompt.text == "" and not app.chat_screen.note.display


async def test_all_of_it_by_mouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(clipboard, "copy", lambda text, write: copied.append(text) or "a test")
    app = make_app(tmp_path, FakeEngine([Script([THINKS]), Script("Two.")]))
    async with app.run_test(size=SIZE) as pilot:
        await talked(pilot, app, "first")
        await click(pilot, app, "copy", "▌ first")
        await wait_until(pilot, lambda: copied == ["first"])
        await click(pilot, app, "copy", "◆ starter")
        await wait_until(pilot, lambda: copied == ["first", "It is blue."])
        await click(pilot, app, "reasoning", "▸")
        await wait_until(pilot, lambda: "┊ First this" in shown(app))
        await click(pilot, app, "◆", "◆ starter")
        await wait_until(pilot, lambda: "It is blue." in shown(app) and "┊" not in shown(app))
        await click(pilot, app, "▸", "It is blue.")
        await wait_until(pilot, lambda: "┊ First this" in shown(app))
        await click(pilot, app, "edit", "▌ first")
        await wait_until(pilot, lambda: app.chat_screen.composing.editing is not None)
        note = app.chat_screen.note
        at = note.text.index("gives it up")
        await pilot.click(note, offset=(at, 0))
        await wait_until(pilot, lambda: app.chat_screen.composing.editing is None)
        await pilot.press("ctrl+r")
        await answered(pilot, app, 2)
        await click(pilot, app, "‹", "2/2")
        await wait_until(pilot, lambda: said(app)[-1] == THINKS)
        transcript = app.chat_screen.transcript
        await pilot.click(
            transcript, offset=(transcript._margin(transcript.size.width) + 3, 1), times=2
        )
        await wait_until(pilot, lambda: app.chat_screen.composing.editing is not None)
        assert app.chat_screen.prompt.text == "first"
        assert app.chat_screen.get_selected_text() is None


async def test_reasoning_is_folded_counted_and_not_sent_back(tmp_path: Path) -> None:
    pieces = ["<think>", "\nFirst", " this.", "\n</think>", "\n\nIt is", " blue."]
    app = make_app(tmp_path, FakeEngine([Script(pieces), Script("Two.")], tokens_per_drain=1))
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        fake(app).hold_after = 2
        await ask(pilot, app, "why")
        await wait_until(pilot, lambda: "▸ thinking" in shown(app))
        fake(app).hold_after = None
        await answered(pilot, app, 2)
        # The seconds are there where they are not none.
        assert re.search(r"▸ reasoning · ([\d.]+ s · )?4 tokens", shown(app))
        assert "First" not in shown(app)
        metrics = app.conversation.path[-1].metrics
        assert metrics is not None and metrics["thought_tokens"] == 4
        await pilot.press("ctrl+up", "space")
        await wait_until(pilot, lambda: "┊ First this." in shown(app))
        await ask(pilot, app, "and")
        await answered(pilot, app, 4)
        sent = [message.content for message in fake(app).chats[-1].messages]
        assert sent == ["why", "It is blue.", "and"]


async def test_reasoning_that_the_template_opens(tmp_path: Path) -> None:
    from dataclasses import replace

    app = make_app(tmp_path, FakeEngine([Script("so\n</think>\n\nYes."), Script("No.")]))
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        assert app.loads.info is not None
        app.loads.info = replace(app.loads.info, opening="<think>\n")
        await ask(pilot, app, "is it")
        await answered(pilot, app, 2)
        assert said(app)[-1] == "<think>\nso\n</think>\n\nYes."
        assert "▸ reasoning" in shown(app) and "Yes." in shown(app)


async def test_what_is_typed_over_the_conversation_goes_to_the_prompt(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await talked(pilot, app, "first")
        app.chat_screen.transcript.focus()
        await wait_until(pilot, lambda: app.chat_screen.transcript.has_focus)
        await pilot.press("h", "i")
        await wait_until(pilot, lambda: app.chat_screen.prompt.text == "hi")


async def test_a_long_conversation_scrolls_to_the_chosen_turn(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    chat = app.chats.create(title="long")
    parent = None
    for number in range(120):
        role = "assistant" if number % 2 else "user"
        parent = app.chats.add_turn(chat.id, parent, role, f"turn {number}\n\n" + "text\n\n" * 5).id
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        transcript = app.chat_screen.transcript
        await wait_until(pilot, lambda: len(transcript.turns) == 120)
        for _ in range(50):
            app.chat_screen.action_choose(-1)
        await wait_until(pilot, lambda: (chosen(app) or "").startswith("turn 70\n"))
        rows = [transcript.render_line(y).text for y in range(transcript.size.height)]
        assert any("turn 70" in row and "┃" in row for row in rows)
        assert not transcript.follow
