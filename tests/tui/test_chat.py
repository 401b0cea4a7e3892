"""The chat by its keys: send, stream, stop, answer again, continue, copy, begin anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_support import answered, ask, fake, make_app, notes, ready, shown, wait_until
from fakes import FakeEngine, Script

from quantchat.tui import clipboard
from quantchat.tui.widgets.bars import KeyBar
from quantchat.tui.widgets.meters import MeterLine, MeterPanel
from quantchat.tui.widgets.prompt import Prompt


async def test_an_answer_streams_and_its_figures_are_shown(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("Because of **Rayleigh** scattering.")]))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "Why is the sky blue?")
        await answered(pilot, app, 2)
        text = shown(app)
        assert "▌ Why is the sky blue?" in text
        assert "Because of Rayleigh scattering." in text
        assert "TTFT 157 ms" in text
        panel = app.screen.query_one(MeterPanel)
        rows = panel.text_on_screen()
        assert "TTFT          157 ms" in rows and "of 2,048 tokens" in rows
        assert app.conversation.title == "Why is the sky blue?"
        assert fake(app).chats[0].messages[-1].content == "Why is the sky blue?"


async def test_a_question_typed_during_the_load_is_sent_when_it_ends(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine(hold_loads=True))
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: app.loads.progress is not None)
        await ask(pilot, app, "early")
        assert app.conversation.waiting and "waiting for the model" in shown(app)
        assert not fake(app).chats
        fake(app).hold_loads = False
        await answered(pilot, app, 2)
        assert "The sky is blue." in shown(app)


async def test_a_key_that_finds_nothing_to_do_says_so(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("one two", endless=True)]))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        for key, said in (
            ("ctrl+r", "There is no question to answer yet."),
            ("ctrl+g", "There is no answer to continue yet."),
            ("f3", "There is no answer yet."),
            ("ctrl+up", "There is no message to choose yet."),
            ("alt+p", "There is no folded paste."),
        ):
            await pilot.press(key)
            await wait_until(pilot, lambda words=said: words in notes(app))
        await ask(pilot, app, "a question")
        await wait_until(pilot, lambda: "two" in shown(app))
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: "Escape stops the answer first." in notes(app))
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.conversation.answering is None)
        await pilot.press("alt+left")
        await wait_until(pilot, lambda: "There is one version of it." in notes(app))


async def test_stopping_keeps_the_text_and_continuing_adds_to_it(tmp_path: Path) -> None:
    endless = Script("one two three four", endless=True)
    app = make_app(tmp_path, FakeEngine([endless, Script(" and done.")]))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "count")
        await wait_until(pilot, lambda: "three" in shown(app))
        await pilot.press("escape")
        await answered(pilot, app, 2)
        partial = app.conversation.path[-1].content
        assert partial.startswith("one two three") and "stopped" in shown(app)
        await pilot.press("ctrl+g")
        await wait_until(pilot, lambda: app.conversation.path[-1].content.endswith("and done."))
        assert app.conversation.path[-1].content == partial + " and done."
        assert fake(app).chats[-1].continue_last
        assert fake(app).chats[-1].messages[-1].content == partial


async def test_answering_again_keeps_the_old_answer_as_a_version(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("First."), Script("Second.")]))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "say")
        await answered(pilot, app, 2)
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: "Second." in shown(app))
        await answered(pilot, app, 2)
        assert "2/2" in shown(app) and "First." not in shown(app)
        await pilot.press("alt+left")
        await wait_until(pilot, lambda: "First." in shown(app))
        assert "1/2" in shown(app)
        assert app.conversation.path[-1].content == "First."


async def test_copying_takes_the_text_not_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(clipboard, "copy", lambda text, write: copied.append(text) or "a test")
    answer = "**Bold**\n\n```python\nprint(1)\n```\n"
    app = make_app(tmp_path, FakeEngine([Script([answer])]))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "code")
        await answered(pilot, app, 2)
        await pilot.press("f3")
        await wait_until(pilot, lambda: len(copied) == 1)
        await pilot.press("f4")
        await wait_until(pilot, lambda: len(copied) == 2)
        assert copied == [answer, "print(1)"]


async def test_a_new_chat_leaves_the_old_one_in_the_list(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "first chat")
        await answered(pilot, app, 2)
        await pilot.press("ctrl+n")
        assert not app.conversation.path and shown(app) == ""
        await ask(pilot, app, "second chat")
        await answered(pilot, app, 2)
        app.writer.flush()
        assert [chat.title for chat in app.chats.list()] == ["second chat", "first chat"]


async def test_a_narrow_terminal_has_one_line_of_meters(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hello")
        await answered(pilot, app, 2)
        assert not app.screen.query_one(MeterPanel).display
        line = app.screen.query_one(MeterLine)
        assert line.display
        await wait_until(pilot, lambda: "tok/s" in line.render().plain)
        assert line.render().cell_length <= 80
        assert app.screen.query_one(KeyBar).render().cell_length <= 80
        await pilot.resize_terminal(140, 40)
        await wait_until(pilot, lambda: app.screen.query_one(MeterPanel).display)


@pytest.mark.parametrize(("swap", "enter"), [(True, "enter"), (False, "ctrl+j")])
async def test_enter_sends_or_breaks_the_line(tmp_path: Path, swap: bool, enter: str) -> None:
    app = make_app(tmp_path, enter_sends=swap)
    other = {"enter": "ctrl+j", "ctrl+j": "enter"}[enter]
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await pilot.press("a", other, "b", enter)
        await answered(pilot, app, 2)
        assert app.conversation.path[0].content == "a\nb"


async def test_the_prompt_grows_and_remembers(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        prompt = app.screen.query_one(Prompt)
        start = prompt.outer_size.height
        prompt.text = "\n".join(str(number) for number in range(30))
        await wait_until(pilot, lambda: prompt.outer_size.height > start)
        assert prompt.outer_size.height == 12
        prompt.text = ""
        await ask(pilot, app, "one")
        await answered(pilot, app, 2)
        await pilot.press("d", "r", "up")
        assert prompt.text == "one"
        await pilot.press("down")
        assert prompt.text == "dr"


async def test_a_large_text_is_sent_whole(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine(context_tokens=65_536))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        text = "\n".join(f"line {number}" for number in range(5000))
        await ask(pilot, app, text)
        await answered(pilot, app, 2)
        assert fake(app).chats[0].messages[-1].content == text


async def test_a_dropped_turn_is_told(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("ok", notice="2 turns were left out")]))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hi")
        await answered(pilot, app, 2)
        assert shown(app).index("2 turns were left out") < shown(app).index("ok")


async def test_leaving_a_chat_while_it_answers_keeps_what_came(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("early words", endless=True), Script("new one")]))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "old")
        await wait_until(pilot, lambda: "early words" in shown(app))
        await pilot.press("ctrl+n")
        assert app.conversation.answering is None and shown(app) == ""
        await ask(pilot, app, "new")
        await answered(pilot, app, 2)
        assert app.conversation.path[-1].content == "new one"
        app.writer.flush()
        old = next(chat for chat in app.chats.list() if chat.title == "old")
        left = app.chats.path(old.id)[-1]
        assert left.content.startswith("early words") and left.state == "stopped"
