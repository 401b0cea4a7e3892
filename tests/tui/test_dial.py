"""The dial over the schemes: what it shows, its keys and clicks, and what follows from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_support import FakeSchemes, answered, ask, fake, make_app, notes, ready, shown, wait_until
from fakes import FakeEngine, Script
from textual.pilot import Pilot

from quantchat.errors import QuantchatError
from quantchat.tui.app import QuantchatApp
from quantchat.tui.widgets.bars import KeyBar
from quantchat.tui.widgets.dial import Dial
from quantchat.tui.widgets.prompt import Prompt


def dial(app: QuantchatApp) -> Dial:
    return app.chat_screen.query_one(Dial)


def said(app: QuantchatApp) -> str:
    return dial(app).render().plain


async def turned(pilot: Pilot[None], app: QuantchatApp, key: str = "alt+down") -> None:
    """Open the dial and wait for its schemes."""
    await pilot.press(key)
    await wait_until(pilot, lambda: dial(app).chosen is not None)


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_the_dial_says_what_a_scheme_would_be(tmp_path: Path, size: tuple[int, int]) -> None:
    app = make_app(tmp_path, scheme="int8")
    async with app.run_test(size=size) as pilot:
        await ready(pilot, app)
        await turned(pilot, app)
        await wait_until(pilot, lambda: dial(app).region.height >= 2)
        text = said(app)
        assert "[int4]" in text and "●int8" in text and "fp8" not in text
        assert "84.0 MiB weights (−45.0 MiB)" in text and "~119 tok/s (×1.54)" in text
        assert "quality not measured" in text
        await pilot.press("alt+up")
        await wait_until(pilot, lambda: "[●int8]" in said(app))
        assert "KL 0.0012, top-1 97.1 %" in said(app) and "answers now" in said(app)
        assert all(len(line) <= size[0] for line in said(app).splitlines())
        keys = app.chat_screen.query_one(KeyBar).render().plain
        assert "enter load" in keys and "r load, answer again" in keys and "k KV auto" in keys
        await pilot.press("escape")
        await wait_until(pilot, lambda: not dial(app).display)
        assert app.focused is app.chat_screen.prompt and len(fake(app).loads) == 1


async def test_every_key_of_the_dial(tmp_path: Path) -> None:
    schemes = FakeSchemes()
    app = make_app(tmp_path, schemes=schemes, scheme="int8")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await turned(pilot, app, "alt+up")
        assert "[fp16]" in said(app)
        for key, name in (
            *(("left", "auto"), ("left", "squeezellm"), ("right", "auto")),
            *(("end", "squeezellm"), ("home", "auto"), ("right", "fp16")),
        ):
            await pilot.press(key)
            await wait_until(pilot, lambda name=name: f"[{name}]" in said(app))
        await pilot.press("k", "k")
        await wait_until(pilot, lambda: "KV fp8 95.0 MiB for 8,192 (−85.0 MiB)" in said(app))
        assert "[fp16]" in said(app) and app.preferences.settings.kv == "auto"
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.scheme == "fp16")
        assert app.preferences.settings.kv == "fp8" == fake(app).loads[-1].kv
        assert "fp16 instead of int8, KV fp8 instead of 16bit" in notes(app)


async def test_r_answers_again_with_the_scheme_and_keeps_the_old_answer(tmp_path: Path) -> None:
    engine = FakeEngine([Script("wide words"), Script("narrow words")])
    app = make_app(tmp_path, engine, scheme="int8")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "go")
        await answered(pilot, app, 2)
        await turned(pilot, app)
        await pilot.press("r")
        await wait_until(pilot, lambda: "narrow words" in shown(app))
        await answered(pilot, app, 2)
        assert app.conversation.path[-1].scheme == "int4" and "2/2" in shown(app)
        assert "Context computed anew with the next answer" in notes(app)
        await pilot.press("alt+left")
        await wait_until(pilot, lambda: "wide words" in shown(app))
        assert "int8" in shown(app) and "1/2" in shown(app)


async def test_r_waits_for_the_answer_that_streams(tmp_path: Path) -> None:
    engine = FakeEngine([Script("first words", endless=True), Script("second words")])
    app = make_app(tmp_path, engine, scheme="int8")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "go")
        await wait_until(pilot, lambda: "first words" in shown(app))
        await turned(pilot, app)
        await pilot.press("r")
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.scheme == "int4")
        assert app.conversation.answering is not None and len(engine.chats) == 1
        await pilot.press("escape")
        await wait_until(pilot, lambda: "second words" in shown(app))


async def test_r_answers_nothing_again_in_another_conversation(tmp_path: Path) -> None:
    engine = FakeEngine([Script("one"), Script("first words", endless=True), Script("three")])
    app = make_app(tmp_path, engine, scheme="int8")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "go")
        await answered(pilot, app, 2)
        chat, answer = app.conversation.chat, app.conversation.path[-1]
        assert chat is not None
        await pilot.press("ctrl+n")
        await ask(pilot, app, "else")
        await wait_until(pilot, lambda: "first words" in shown(app))
        await turned(pilot, app)
        await pilot.press("r")
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.scheme == "int4")
        app.conversation.open(chat.id)
        await wait_until(pilot, lambda: app.switching._again is None)
        assert len(engine.chats) == 2 and app.conversation.path[-1].id == answer.id


async def test_the_dial_follows_what_answers(tmp_path: Path) -> None:
    app = make_app(tmp_path, scheme="int8")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await turned(pilot, app)
        app.switching.take("int4", "auto")
        await wait_until(pilot, lambda: "[●int4]" in said(app))
        assert "answers now" in said(app) and "●int8" not in said(app)


async def test_a_failed_load_answers_nothing_again(tmp_path: Path) -> None:
    engine = FakeEngine(load_failures={"int4": ("no kernel for it", "")})
    app = make_app(tmp_path, engine, scheme="int8")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "go")
        await answered(pilot, app, 2)
        await turned(pilot, app)
        await pilot.press("r")
        await wait_until(pilot, lambda: app.loads.problem is not None)
        app.switching.settle()
        assert len(engine.chats) == 1 and app.loads.info is not None
        assert app.loads.info.scheme == "int8"


async def test_the_table_answers_again_too(tmp_path: Path) -> None:
    engine = FakeEngine([Script("wide words"), Script("narrow words")])
    app = make_app(tmp_path, engine, scheme="fp16")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "go")
        await answered(pilot, app, 2)
        await pilot.press("f5")
        await wait_until(pilot, lambda: app.screen.query("#table"))
        table = app.screen.query_one("#table")
        await wait_until(pilot, lambda: table.row_count == 7)
        await pilot.press("down", "r")
        await wait_until(pilot, lambda: "narrow words" in shown(app))
        assert app.conversation.path[-1].scheme == "int8"


async def test_the_mouse_turns_and_loads(tmp_path: Path) -> None:
    app = make_app(tmp_path, scheme="int8")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await turned(pilot, app)
        await wait_until(pilot, lambda: dial(app).region.height >= 2)

        async def click_on(word: str) -> None:
            line = said(app).splitlines()[0]
            await pilot.click(Dial, offset=(line.index(word) + 1, 0))

        await click_on("fp16")
        await wait_until(pilot, lambda: "[fp16]" in said(app))
        bar = app.chat_screen.query_one(KeyBar)
        at = bar.render().plain.index("KV auto")
        await pilot.click(KeyBar, offset=(at, 0))
        await wait_until(pilot, lambda: "KV 16bit" in bar.render().plain)
        await click_on("[fp16]")
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.scheme == "fp16")


async def test_writing_goes_on_in_the_prompt(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await turned(pilot, app)
        await pilot.press("h", "i")
        prompt = app.chat_screen.query_one(Prompt)
        await wait_until(pilot, lambda: prompt.text == "hi")
        assert not dial(app).display and prompt.has_focus


async def test_what_cannot_be_planned_is_said(tmp_path: Path) -> None:
    schemes = FakeSchemes()
    schemes.error = QuantchatError("the file is gone", hint="fetch it again")
    app = make_app(tmp_path, schemes=schemes)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await pilot.press("alt+up")
        await wait_until(pilot, lambda: "the file is gone (fetch it again)" in said(app))
        await pilot.press("enter", "escape")
        await wait_until(pilot, lambda: not dial(app).display)
        assert len(fake(app).loads) == 1
