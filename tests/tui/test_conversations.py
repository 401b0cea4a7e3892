"""The list of conversations by keys and mouse: search, tags, marks, undo, export and import."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from app_support import answered, ask, make_app, ready, shown, wait_until
from fakes import FakeEngine, Script
from list_support import fill, in_front, opened, titles
from textual.widgets import Input, OptionList

from quantchat.tui.days import ago, day_of
from quantchat.tui.screens import conversations
from quantchat.tui.screens.conversations import ConversationsScreen
from quantchat.tui.screens.export import ExportDialog
from quantchat.tui.screens.importing import ImportDialog
from quantchat.tui.screens.tags import TagsDialog
from quantchat.tui.widgets.chat_list import ChatList


async def test_conversations_are_searched_renamed_deleted_and_opened(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("about apples"), Script("about pears")]))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        for text in ("first", "second"):
            await pilot.press("ctrl+n")
            await ask(pilot, app, text)
            await answered(pilot, app, 2)
        app.writer.flush()
        rows = await opened(pilot, app, 2)
        await pilot.press(*"apples")
        await wait_until(pilot, lambda: len(rows.found) == 1)
        assert "about apples" in rows.text_on_screen(), "what was found is shown"
        await pilot.press("f2")
        await wait_until(pilot, lambda: bool(app.screen.query("#answer")))
        app.screen.query_one("#answer", Input).value = "fruit"
        await pilot.press("enter")
        await wait_until(pilot, lambda: titles(rows) == ["fruit"])
        await pilot.press("f8")
        await wait_until(pilot, lambda: not rows.found and len(app.chats.list()) == 1)
        assert "Nothing found." in rows._empty
        await pilot.press("f9")
        await wait_until(pilot, lambda: titles(rows) == ["fruit"])
        await pilot.press("enter")
        await wait_until(pilot, lambda: "about apples" in shown(app))
        assert app.conversation.title == "fruit"


async def test_a_quick_hand_gets_what_it_typed(tmp_path: Path) -> None:
    fill(tmp_path, "apples", "pears", "plums")
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, app, 3)
        # No wait between the word and Enter: the list is still that of before.
        app.screen.query_one("#filter", Input).value = "apples"
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.conversation.title == "apples")


async def test_keys_move_mark_pin_and_act_on_all_that_are_marked(tmp_path: Path) -> None:
    ids = fill(tmp_path, "a", "b", "c", "d")
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        rows = await opened(pilot, app, 4)
        assert titles(rows) == ["d", "c", "b", "a"]
        assert rows.current is not None and rows.current.id == ids[3]
        await pilot.press("down", "down", "up")
        assert rows.cursor == 1
        await pilot.press("ctrl+end")
        assert rows.cursor == 3
        await pilot.press("ctrl+home")
        assert rows.cursor == 0
        await pilot.press("pagedown")
        assert rows.cursor == 3
        await pilot.press("pageup")
        assert rows.cursor == 0
        await pilot.press("tab", "tab")
        assert set(rows.marked) == {ids[3], ids[2]} and rows.cursor == 2
        await pilot.press("f4")
        await wait_until(pilot, lambda: all(app.chats.get(key).pinned for key in ids[2:]))
        await wait_until(pilot, lambda: "Pinned" in rows.text_on_screen())
        await pilot.press("ctrl+a")
        assert set(rows.marked) == set(ids)
        await pilot.press("ctrl+a")
        assert not rows.marked
        await pilot.press("ctrl+a", "f8")
        await wait_until(pilot, lambda: not rows.found)
        assert app.conversation.chat is None, "what was open is closed"
        await pilot.press("f9")
        await wait_until(pilot, lambda: len(rows.found) == 4)
        await pilot.press("tab", "escape")
        assert not rows.marked and isinstance(app.screen, ConversationsScreen)
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, ConversationsScreen))


async def test_what_was_said_does_not_stand_before_what_is_asked_for_next(tmp_path: Path) -> None:
    fill(tmp_path, "apples", "pears")
    app = make_app(tmp_path)

    def said() -> list[str]:
        return [each.message.split()[0] for each in app._notifications]

    async with app.run_test(size=(80, 24)) as pilot:
        rows = await opened(pilot, app, 2)
        app.notify("a warning", severity="warning")
        await pilot.press("f8")
        await wait_until(pilot, lambda: said() == ["a", "Deleted"])
        await pilot.press("f9")
        await wait_until(pilot, lambda: said() == ["a", "Brought"])
        await wait_until(pilot, lambda: len(rows.found) == 2)
        await pilot.press("f7")
        await in_front(pilot, app, ExportDialog)
        await wait_until(pilot, lambda: said() == ["a"])


async def test_marks_that_are_no_longer_listed_are_taken_away(tmp_path: Path) -> None:
    fill(tmp_path, "apples", "pears")
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        rows = await opened(pilot, app, 2)
        await pilot.press("ctrl+a")
        await pilot.press(*"pears")
        await wait_until(pilot, lambda: titles(rows) == ["pears"])
        assert [chat.title for chat in rows.chosen] == ["pears"]
        await pilot.press("f8")
        await wait_until(pilot, lambda: [chat.title for chat in app.chats.list()] == ["apples"])


async def test_tags_are_typed_switched_shown_and_found(tmp_path: Path) -> None:
    ids = fill(tmp_path, "a", "b", "c")
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        rows = await opened(pilot, app, 3)
        await pilot.press("f6")
        await in_front(pilot, app, TagsDialog)
        app.screen.query_one("#path", Input).value = "work, #Food"
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.chats.get(ids[2]).tags == ("work", "Food"))
        await wait_until(pilot, lambda: "#work #Food" in rows.text_on_screen())
        await pilot.press("ctrl+a", "f6")
        await in_front(pilot, app, TagsDialog)
        choices = app.screen.query_one("#choices", OptionList)
        await wait_until(pilot, lambda: choices.option_count == 2)
        assert "[–] #work" in str(choices.get_option_at_index(0).prompt)
        await pilot.press("down")
        await wait_until(pilot, lambda: choices.has_focus)
        await pilot.press("space", "down", "enter", "enter")
        await pilot.click("#keep")
        await wait_until(pilot, lambda: app.chats.get(ids[0]).tags == ("work",))
        assert app.chats.get(ids[2]).tags == ("work",)
        await pilot.press("escape")
        await pilot.press("#", *"wor", " ", *"said")
        await wait_until(pilot, lambda: len(rows.found) == 3 and rows.found[0].snippet)
        app.screen.query_one("#filter", Input).value = "#food"
        await wait_until(pilot, lambda: not rows.found)
        await pilot.press("f6")
        assert isinstance(app.screen, ConversationsScreen), "there is nothing to tag"


async def test_the_mouse_alone_opens_marks_and_deletes(tmp_path: Path) -> None:
    ids = fill(tmp_path, "a", "b", "c")
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        rows = await opened(pilot, app, 3)
        await pilot.click(ChatList, offset=(1, 1))
        await wait_until(pilot, lambda: set(rows.marked) == {ids[2]})
        await pilot.click(ChatList, offset=(20, 2), control=True)
        await wait_until(pilot, lambda: set(rows.marked) == {ids[2], ids[1]})
        await pilot.click(ChatList, offset=(20, 0))
        assert set(rows.marked) == {ids[2], ids[1]}, "a day is no conversation"
        await pilot.click("#more-keys", offset=(3, 0))
        await wait_until(pilot, lambda: titles(rows) == ["a"])
        await pilot.click(ChatList, offset=(20, 1))
        await wait_until(pilot, lambda: app.conversation.title == "a")


async def test_a_long_list_comes_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "PAGE_ROWS", 80)
    fill(tmp_path, *(f"chat {number}" for number in range(200)))
    app = make_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await pilot.press("ctrl+l")
        await wait_until(pilot, lambda: isinstance(app.screen, ConversationsScreen))
        rows = app.screen.query_one(ChatList)
        await wait_until(pilot, lambda: rows.total == 200)
        assert len(rows.found) < 200
        for _ in range(8):
            await pilot.press("ctrl+end")
        await wait_until(pilot, lambda: len(rows.found) == 200)
        assert titles(rows) == [f"chat {number}" for number in range(199, -1, -1)]
        await pilot.press("ctrl+end", "f8")
        await wait_until(pilot, lambda: len(rows.found) == 199)
        assert "chat 0" not in titles(rows) and rows.cursor == 198


async def test_export_and_import_from_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "itself").symlink_to("itself")
    monkeypatch.chdir(folder)
    fill(tmp_path, "a", "b")
    app = make_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        rows = await opened(pilot, app, 2)
        await pilot.press("f7")
        await in_front(pilot, app, ExportDialog)
        path = app.screen.query_one("#path", Input)
        await wait_until(pilot, lambda: path.has_focus)
        assert path.value == str(folder / "b.md")
        await pilot.press("enter")
        await wait_until(pilot, lambda: (folder / "b.md").exists())
        await in_front(pilot, app, ConversationsScreen)
        await pilot.press("f7")
        await in_front(pilot, app, ExportDialog)
        path = app.screen.query_one("#path", Input)
        assert path.value == str(folder / "b-2.md"), "a name that is free"
        await pilot.press("f7")
        assert path.value == str(folder / "b-2.json")
        path.value = str(folder / "b.md")
        await pilot.click("#export")
        await wait_until(
            pilot, lambda: "exists already" in str(app.screen.query_one("#trouble").render())
        )
        await pilot.press("escape")
        await in_front(pilot, app, ConversationsScreen)
        await pilot.press("ctrl+a", "f7")
        await in_front(pilot, app, ExportDialog)
        await pilot.click("#form-json")
        await pilot.click("#export")
        await wait_until(
            pilot, lambda: len(list((folder / "quantchat-conversations").glob("*.json"))) == 2
        )
        await in_front(pilot, app, ConversationsScreen)

        await pilot.press("f3")
        await in_front(pilot, app, ImportDialog)
        files = app.screen.query_one("#choices", OptionList)
        await wait_until(pilot, lambda: files.option_count == 3)
        app.screen.query_one("#path", Input).value = "none.md"
        await pilot.press("enter")
        await wait_until(
            pilot, lambda: "cannot be read" in str(app.screen.query_one("#trouble").render())
        )
        await pilot.press("down")
        await wait_until(pilot, lambda: files.has_focus)
        assert files.highlighted == 2, "the first file, not a folder"
        await pilot.press("home", "down", "enter")
        await wait_until(pilot, lambda: app.screen._entries[-1].name == "b.json")  # type: ignore[attr-defined]
        await pilot.press("up", "end", "enter")
        await wait_until(pilot, lambda: len(rows.found) == 3)
        assert titles(rows) == ["b", "b", "a"]


async def test_export_and_import_of_the_open_conversation_are_in_the_palette(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        found = {each.title: each.callback for each in app.get_system_commands(app.screen)}
        found["Export this conversation"]()
        await wait_until(pilot, lambda: any("nothing" in str(n) for n in app._notifications))
        await ask(pilot, app, "Why?")
        await answered(pilot, app, 2)
        found["Export this conversation"]()
        await in_front(pilot, app, ExportDialog)
        copied: list[str] = []
        monkeypatch.setattr(app, "copy_text", lambda text, what: copied.append(text))
        await pilot.click("#copy")
        await wait_until(pilot, lambda: copied)
        assert "## You\n\nWhy?" in copied[0] and "The sky is blue." in copied[0]
        (tmp_path / "in.md").write_text(copied[0].replace("Why?", "Wherefore?"))
        found["Import a conversation"]()
        await in_front(pilot, app, ImportDialog)
        files = app.screen.query_one("#choices", OptionList)
        await wait_until(pilot, lambda: files.option_count > 1)
        app.screen.query_one("#path", Input).value = "in.md"
        await wait_until(pilot, lambda: files.region.height > 1)
        await pilot.click("#import")
        await wait_until(pilot, lambda: "Wherefore?" in shown(app))


async def test_hostile_titles_do_not_move_the_cursor(tmp_path: Path) -> None:
    fill(tmp_path, "a\x1b[2Jb \u202egnp.exe [bold]x[/bold]")
    app = make_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        rows = await opened(pilot, app, 1)
        text = rows.text_on_screen()
        assert "a [2Jb" in text and "[bold]x[/bold]" in text
        assert "\x1b" not in text and "\u202e" not in text


def test_days_and_times() -> None:
    now_s = time.mktime((2026, 11, 22, 12, 0, 0, 0, 0, -1))
    day_s = 86_400.0
    assert [day_of(now_s - days * day_s, now_s) for days in (-1, 0, 1, 2, 6, 7, 22, 400)] == [
        *("Today", "Today", "Yesterday", "Friday", "Monday", "Earlier in November"),
        *("October 2026", "October 2025"),
    ]
    assert [ago(now_s - s, now_s) for s in (-5, 30, 90, 7200, 3 * day_s)] == [
        *("now", "now", "1 min", "2 h", "3 d"),
    ]
    assert ago(now_s - 30 * day_s, now_s) == "2026-10-23"
