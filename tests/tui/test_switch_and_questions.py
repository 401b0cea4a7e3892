"""Questions that meet a switch of models: whose they are told as, and what waits for what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from app_support import answered, ask, dialog_text, fake, make_app, notes, ready, wait_until
from fake_facts import model_info
from fakes import FakeEngine, Script

from quantchat.errors import StoreError
from quantchat.events import Unloaded


async def test_what_is_asked_while_a_model_comes_in_is_told_as_that_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine([Script("One."), Script("Two.")])
    app = make_app(tmp_path, engine, scheme="fp16")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "first")
        await answered(pilot, app, 2)
        engine.hold_loads = True
        app.set_value("scheme", "int4")
        await wait_until(pilot, lambda: app.loads.state == "loading")
        # The engine takes the model in: it answers nothing meanwhile.
        step = engine._step_answer
        monkeypatch.setattr(engine, "_step_answer", lambda _: None)
        await ask(pilot, app, "second")
        await wait_until(pilot, lambda: app.conversation.answering)
        thinks = lambda *given: replace(model_info(*given), opening="<think>")  # noqa: E731
        monkeypatch.setattr("fakes.model_info", thinks)
        engine.hold_loads = False
        await wait_until(pilot, lambda: app.loads.state == "ready")
        monkeypatch.setattr(engine, "_step_answer", step)
        await answered(pilot, app, 4)
        path = app.chats.path(app.chats.list()[0].id)
        assert [turn.scheme for turn in path] == ["", "fp16", "", "int4"]
        assert path[-1].content == "<think>Two." and path[-1].state == "complete"
        assert app.chats.list()[0].scheme == "int4"
        assert "int4" in app.chat_screen.transcript.stack.turns[-1].label


@pytest.mark.parametrize("another", [False, True])
async def test_a_question_waits_where_the_old_model_had_to_make_room(
    tmp_path: Path, another: bool
) -> None:
    app = make_app(tmp_path, scheme="fp16")
    engine = fake(app)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        engine.hold_loads = True
        app.set_value("scheme", "int4")
        await wait_until(pilot, lambda: app.loads.state == "loading")
        engine.infos.clear()
        if another:
            # Another wish finds the slot empty, before it knows where its model lies.
            app.set_value("scheme", "int8")
            assert app.loads.state == "looking"
            app.loads.take(Unloaded(slot="main", time_s=0.0))
        else:
            engine.push([Unloaded(slot="main", time_s=0.0)])
            await wait_until(pilot, lambda: not app.loads.ready)
            assert app.loads.state == "loading"
        await ask(pilot, app, "and now?")
        await wait_until(pilot, lambda: app.conversation.waiting)
        engine.hold_loads = False
        await answered(pilot, app, 2)
        assert app.conversation.path[-1].scheme == ("int8" if another else "int4")
        assert another or "int4 instead of fp16" in notes(app)


async def test_a_full_disk_when_the_model_comes_ends_no_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(tmp_path)
    fake(app).hold_loads = True
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: app.loads.state == "loading")
        await ask(pilot, app, "wait for it")
        await wait_until(pilot, lambda: app.conversation.waiting)

        def full(*_: object, **__: object) -> None:
            raise StoreError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(app.chats, "add_turn", full)
            fake(app).hold_loads = False
            await wait_until(pilot, lambda: "the disk is full" in dialog_text(app))
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.chat_screen)
        await pilot.press("ctrl+r")
        await answered(pilot, app, 2)


async def test_a_switch_goes_on_while_the_old_model_answers(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine(), scheme="fp16")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        fake(app).hold_loads = True
        app.set_value("scheme", "int4")
        await wait_until(pilot, lambda: app.loads.state == "loading")
        await ask(pilot, app, "meanwhile")
        await answered(pilot, app, 2)
        assert app.conversation.path[-1].scheme == "fp16"
        fake(app).hold_loads = False
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.scheme == "int4")
        await ask(pilot, app, "and now")
        await answered(pilot, app, 4)
        assert app.conversation.path[-1].scheme == "int4"
        assert len(fake(app).chats[-1].messages) == 3
