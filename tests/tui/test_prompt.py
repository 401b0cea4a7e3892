"""Writing: folded pastes, files with completion, commands, the editor, the size of a message."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_support import answered, ask, fake, make_app, notes, ready, shown, wait_until
from fakes import FakeEngine, Script
from textual.events import Paste
from textual.pilot import Pilot

from quantchat.errors import ModelNotFoundError
from quantchat.tui.app import QuantchatApp
from quantchat.tui.control import slash
from quantchat.tui.control.completing import fragment_of
from quantchat.tui.screens.dialog import Dialog
from quantchat.tui.widgets.prompt import Prompt

LINES = "\n".join(f"line {number}" for number in range(240))
SIZE = (120, 40)


async def paste(pilot: Pilot[None], app: QuantchatApp, text: str) -> Prompt:
    prompt = app.chat_screen.prompt
    prompt.focus()
    await wait_until(pilot, lambda: prompt.has_focus)
    before = prompt.text
    app.post_message(Paste(text))
    await wait_until(pilot, lambda: prompt.text != before)
    return prompt


async def test_a_long_paste_is_folded_and_sent_in_full(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine(context_tokens=65_536))
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        prompt = await paste(pilot, app, LINES)
        assert prompt.text == "[paste 1 · 240 lines]"
        await pilot.press("s", "u", "m", "enter")
        await answered(pilot, app, 2)
        turn = app.conversation.path[0]
        assert turn.content == "[paste 1 · 240 lines]sum"
        assert [(each.name, each.text) for each in turn.attachments] == [("paste 1", LINES)]
        seen = fake(app).chats[0].messages[-1].content
        assert seen.startswith("paste 1:\n```\nline 0\n") and seen.endswith("lines]sum")
        assert "▸ paste 1 · 2.00 KiB" in shown(app) and "line 7" not in shown(app)


async def test_a_folded_paste_is_unfolded_by_key_and_mouse_and_goes_as_a_whole(
    tmp_path: Path,
) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        prompt = await paste(pilot, app, LINES)
        await pilot.press("alt+p")
        assert prompt.text == LINES
        prompt.text = ""
        await paste(pilot, app, LINES)
        assert prompt.text == "[paste 1 · 240 lines]"
        await pilot.press("backspace")
        assert prompt.text == ""
        await paste(pilot, app, LINES)
        await pilot.click(prompt, offset=(6, 1))
        await wait_until(pilot, lambda: prompt.text == LINES)
        prompt.text = ""
        await paste(pilot, app, "short")
        assert prompt.text == "short" and not prompt.pastes()


async def test_what_is_typed_into_a_mark_stands_behind_it(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        prompt = await paste(pilot, app, LINES)
        await pilot.press("left", "left", "left", "x")
        assert prompt.text == "[paste 1 · 240 lines]x"
        await pilot.press("alt+x")
        assert prompt.text == "[paste 1 · 240 lines]x"


async def test_files_are_completed_and_read_when_they_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work"
    (folder / "docs").mkdir(parents=True)
    (folder / "notes.md").write_text("The word is BANANA.")
    (folder / "docs" / "a b.py").write_text("x = 1")
    monkeypatch.chdir(folder)
    app = make_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        prompt, offers = app.chat_screen.prompt, app.chat_screen.completion
        await pilot.press("@", "n", "o")
        await wait_until(pilot, lambda: offers.display)
        assert [offer.title for offer in offers.offers] == ["notes.md"]
        await pilot.press("tab")
        await wait_until(pilot, lambda: prompt.text == "@notes.md ")
        await wait_until(pilot, lambda: not offers.display)
        await pilot.press("@")
        await wait_until(pilot, lambda: len(offers.offers) == 3)
        await pilot.press("up", "down")
        await pilot.click(offers, offset=(5, 0))
        await wait_until(pilot, lambda: prompt.text == "@notes.md @docs/")
        await wait_until(pilot, lambda: [o.title for o in offers.offers] == ["docs/a b.py"])
        await pilot.press("enter")
        await wait_until(pilot, lambda: prompt.text == '@notes.md @"docs/a b.py" ')
        await pilot.press("?", "enter")
        await answered(pilot, app, 2)
        assert [(each.name, each.text) for each in app.conversation.path[0].attachments] == [
            ("notes.md", "The word is BANANA."),
            ("docs/a b.py", "x = 1"),
        ]
        assert "▸ notes.md · 19 B" in shown(app)


async def test_escape_closes_the_list_and_nothing_else(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        offers = app.chat_screen.completion
        await pilot.press("/", "n")
        await wait_until(pilot, lambda: offers.display)
        await pilot.press("escape")
        await wait_until(pilot, lambda: not offers.display)
        assert app.chat_screen.prompt.text == "/n"
        await pilot.press("e")
        await wait_until(pilot, lambda: offers.display)


async def test_a_file_that_cannot_go_along_keeps_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo").write_bytes(b"\0\1")
    app = make_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "see @photo")
        await wait_until(pilot, lambda: "photo is not text" in notes(app))
        assert app.chat_screen.prompt.text == "see @photo" and not app.conversation.path
        await ask(pilot, app, "see @no/such and me@mail.org")
        await answered(pilot, app, 2)
        assert "@no/such names no file" in notes(app)


async def test_a_large_message_is_weighed_before_it_is_sent(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine(context_tokens=2048))
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        note = app.chat_screen.note
        app.chat_screen.prompt.text = "word " * 500
        await wait_until(pilot, lambda: "about 70" in note.text)
        assert "34 % of the context of 2,048" in note.text
        app.chat_screen.prompt.text = "word " * 5000
        await wait_until(pilot, lambda: "1,536 are free" in note.text)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, Dialog))
        assert not app.conversation.path
        await pilot.press("s")
        await answered(pilot, app, 2)
        await wait_until(pilot, lambda: not note.display or "Context" in note.text)


async def test_a_full_context_is_told_with_what_to_do(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("word " * 420)], context_tokens=512))
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        note = app.chat_screen.note
        await ask(pilot, app, "a question of some length")
        await answered(pilot, app, 2)
        await wait_until(pilot, lambda: "Context" in note.text)
        await pilot.press(*"and more words")
        await wait_until(pilot, lambda: "oldest" in note.text)
        await pilot.press("f9")
        await wait_until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press("l")
        await wait_until(pilot, lambda: len(fake(app).loads) == 2)
        assert fake(app).loads[-1].context_tokens == 0
        await wait_until(pilot, lambda: not isinstance(app.screen, Dialog))
        await pilot.press("f9")
        await wait_until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press("n")
        await wait_until(pilot, lambda: not app.conversation.path)
        assert "Context" not in note.text


async def test_commands_do_what_their_keys_do(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "first")
        await answered(pilot, app, 2)
        await ask(pilot, app, "/rename  A title ")
        await wait_until(pilot, lambda: app.conversation.title == "A title")
        await ask(pilot, app, "/retry")
        await wait_until(pilot, lambda: app.conversation.path[-1].versions == 2)
        await answered(pilot, app, 2)
        await ask(pilot, app, "/edit")
        await wait_until(pilot, lambda: app.chat_screen.prompt.text == "first")
        await pilot.press("escape")
        await ask(pilot, app, "/scheme int4")
        await wait_until(pilot, lambda: app.preferences.settings.scheme == "int4")
        await ask(pilot, app, "/theme paper")
        await wait_until(pilot, lambda: app.theme == "paper")
        await ready(pilot, app)
        for text, words in (
            ("/nonsense", "There is no command /nonsense"),
            ("/scheme wrong", "There is no scheme 'wrong'"),
            ("/kv wrong", "is not allowed"),
            ("/model wrong", "There is no model 'wrong'"),
            ("/theme wrong", "There is no theme 'wrong'"),
            ("/new wrong", "/new takes nothing after it"),
            ("/preset wrong", "there is no preset 'wrong'"),
            ("/prompt wrong", "there is no system prompt 'wrong'"),
        ):
            await ask(pilot, app, text)
            await wait_until(pilot, lambda words=words: words in notes(app))
        assert len(app.conversation.path) == 2
        await ask(pilot, app, "/tag work code")
        await ask(pilot, app, "/tag -code more")
        await ask(pilot, app, "/system Be brief.")
        await ask(pilot, app, "/preset precise")
        options = app.conversation
        await wait_until(pilot, lambda: options.options.tags == ("work", "more"))
        await wait_until(pilot, lambda: options.options.system_prompt == "Be brief.")
        await wait_until(pilot, lambda: (options.options.sampling or {})["temperature"] == 0.2)
        await ask(pilot, app, "/preset none")
        await wait_until(pilot, lambda: options.options.sampling is None)
        await ask(pilot, app, "/options")
        await wait_until(pilot, lambda: app.screen is not app.chat_screen)
        await pilot.press("escape")
        await ask(pilot, app, "//usr is a folder")
        await answered(pilot, app, 4)
        assert app.conversation.path[2].content == "/usr is a folder"
        await ask(pilot, app, "/new")
        await wait_until(pilot, lambda: not app.conversation.path)


async def test_a_folded_paste_is_a_commands_argument_in_full(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        prompt = app.chat_screen.prompt
        prompt.fill("/system ")
        await paste(pilot, app, LINES)
        assert prompt.text == "/system [paste 1 · 240 lines]"
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.conversation.options.system_prompt == LINES)
        assert prompt.text == ""
        prompt.fill("/theme ")
        await paste(pilot, app, LINES)
        await pilot.press("enter")
        await wait_until(pilot, lambda: "There is no theme 'line 0" in notes(app))
        assert "line 239" not in notes(app)


async def test_arguments_are_completed(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot, app)
        prompt, offers = app.chat_screen.prompt, app.chat_screen.completion
        await pilot.press(*"/mo", "tab")
        await wait_until(pilot, lambda: prompt.text == "/model ")
        await wait_until(pilot, lambda: len(offers.offers) == 2)
        assert "not on disk" in offers.offers[1].detail
        for command, word in (
            ("/scheme int4", "int4"),
            ("/kv in", "int8"),
            ("/theme pap", "paper"),
        ):
            prompt.fill(command)
            await wait_until(
                pilot, lambda word=word: word in [offer.text for offer in offers.offers]
            )


def test_every_command_is_there_once_and_does_something() -> None:
    names = [each.name for each in slash.COMMANDS]
    assert len(set(names)) == len(names)
    for each in slash.COMMANDS:
        assert each.summary and (each.action or each.take is not None)
        assert slash.parse(f"/{each.name}") == (each.name, "")
        assert (each.take is None) == (not each.argument)


async def test_every_action_of_a_command_is_there(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    for each in slash.COMMANDS:
        if each.action:
            where, _, name = each.action.partition(".")
            target = app if where == "app" else app.chat_screen
            assert callable(getattr(target, f"action_{name}")), each.action


@pytest.mark.parametrize(
    ("before", "row", "found"),
    [
        ("/ne", 0, ("command", "/ne", 0)),
        ("/ne", 1, None),
        ("//ne", 0, None),
        ("/scheme in", 0, ("argument", "in", 8)),
        ("see @src/a", 3, ("file", "src/a", 4)),
        ('see @"my fi', 0, ("file", "my fi", 4)),
        ("me@mail", 0, None),
        ("@a b", 0, None),
    ],
)
def test_the_word_at_the_cursor(before: str, row: int, found: tuple[str, str, int] | None) -> None:
    fragment = fragment_of(before, row)
    assert (fragment and (fragment.kind, fragment.text, fragment.start)) == found


async def test_a_wrong_file_is_said_and_the_model_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        before = app.preferences.settings.model

        def find(name: str) -> None:
            raise ModelNotFoundError(f"{name} is not a GGUF file", hint="name a .gguf file")

        monkeypatch.setattr(app.library, "find", find)
        await ask(pilot, app, "/model ./junk.gguf")
        await wait_until(pilot, lambda: "is not a GGUF file" in notes(app))
        assert app.is_running and app.preferences.settings.model == before


async def test_what_was_offered_for_less_is_not_taken_for_more(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        prompt = app.chat_screen.prompt
        await pilot.press("slash")
        await wait_until(pilot, lambda: app.chat_screen.completion.display)
        prompt.insert("model wrong")
        assert prompt.helper is not None and not prompt.helper.take_key("enter")
        await pilot.press("enter")
        await wait_until(pilot, lambda: not prompt.text)
