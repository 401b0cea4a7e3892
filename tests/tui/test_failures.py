"""Every failure is said, leaves a way out, and keeps what was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_support import FakeLibrary, answered, ask, fake, make_app, ready, shown, wait_until
from fakes import FakeEngine, Script
from textual.widgets import Button, Static

from quantchat.errors import DownloadError
from quantchat.tui.app import QuantchatApp
from quantchat.tui.screens.dialog import Dialog
from quantchat.tui.screens.models import ModelsScreen
from quantchat.tui.screens.schemes import SchemesScreen


def dialog_text(app: QuantchatApp) -> str:
    """What the dialog in front says; nothing while there is none."""
    if not isinstance(app.screen, Dialog):
        return ""
    return "\n".join(str(each.content) for each in app.screen.query(Static))


async def test_a_failed_answer_keeps_its_text_and_can_be_had_again(tmp_path: Path) -> None:
    scripts = [Script("a b c d e f g h", fail_after=3), Script("whole")]
    app = make_app(tmp_path, FakeEngine(scripts))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "go")
        await wait_until(pilot, lambda: dialog_text(app))
        assert "not enough memory for the KV cache" in dialog_text(app)
        assert "choose int8 KV" in dialog_text(app)
        assert app.conversation.path[-1].content == "a b c"
        await pilot.press("r")
        await wait_until(pilot, lambda: "whole" in shown(app))
        app.writer.flush()
        versions = app.chats.siblings(app.conversation.path[-1].id)
        assert [turn.content for turn in versions] == ["a b c", "whole"]
        assert versions[0].state == "failed" and "KV cache" in versions[0].note


async def test_the_first_load_failing_offers_ways_out(tmp_path: Path) -> None:
    engine = FakeEngine(load_failures={"fp16": ("no room for 16 bits", "take int4")})
    app = make_app(tmp_path, engine, scheme="fp16")
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: dialog_text(app))
        assert "no room for 16 bits" in dialog_text(app)
        await pilot.press("4")
        await ready(pilot, app)
        assert app.loads.info is not None and app.loads.info.scheme == "int4"
        assert app.preferences.settings.scheme == "int4"


@pytest.mark.parametrize(("key", "kind"), [("s", SchemesScreen), ("m", ModelsScreen)])
async def test_a_failed_first_load_leads_to_other_schemes_and_models(
    tmp_path: Path, key: str, kind: type
) -> None:
    engine = FakeEngine(load_failures={"fp16": ("no room for 16 bits", "take int4")})
    app = make_app(tmp_path, engine, scheme="fp16")
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: dialog_text(app))
        await wait_until(pilot, lambda: len(app.screen.query(Button)) == 5)
        ways = list(app.screen.query(Button))
        await wait_until(pilot, lambda: ways[-1].region.width)
        inner = app.screen.query_one("#ways").region
        for way in ways:
            assert way.region.width > len(str(way.label)) and inner.contains_region(way.region)
        await pilot.press(key)
        await wait_until(pilot, lambda: isinstance(app.screen, kind))


async def test_a_failed_switch_keeps_the_old_model_and_takes_the_setting_back(
    tmp_path: Path,
) -> None:
    engine = FakeEngine(load_failures={"int4": ("no kernel [/for] it", "choose int8")})
    app = make_app(tmp_path, engine, scheme="fp16")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        app.set_value("scheme", "int4")
        await wait_until(pilot, lambda: app.loads.problem is not None)
        assert app.preferences.settings.scheme == "fp16"
        assert app.loads.info is not None and app.loads.info.scheme == "fp16"
        assert any("no kernel" in each.message for each in app._notifications)
        await ask(pilot, app, "still there?")
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


async def test_a_dead_engine_keeps_the_answer_and_can_be_started_again(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("some words here", endless=True)]))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "go")
        await wait_until(pilot, lambda: "some words" in shown(app))
        dead = fake(app)
        dead.hold_answers = True
        dead.die("the engine crashed")
        await wait_until(pilot, lambda: "crashed" in dialog_text(app))
        assert app.conversation.path[-1].content.startswith("some words")
        await pilot.press("r")
        await wait_until(pilot, lambda: app.engine is not dead and app.loads.ready)
        while isinstance(app.screen, Dialog):
            await pilot.press("escape")
        await ask(pilot, app, "again")
        await answered(pilot, app, 4)


async def test_a_missing_model_is_one_key_away(tmp_path: Path) -> None:
    library = FakeLibrary(on_disk=False)
    library.hold.clear()
    app = make_app(tmp_path, library=library)
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: app.loads.state == "missing")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "12.0 s left" in app.status.activity()[0])
        assert "46.9 MiB of 93.8 MiB" in app.status.activity()[0]
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.loads.state == "missing")
        library.hold.set()
        await pilot.press("enter")
        await ready(pilot, app)


async def test_no_source_answering_says_what_to_do(tmp_path: Path) -> None:
    library = FakeLibrary(on_disk=False)
    library.error = DownloadError("no source answered", hint="check the proxy")
    app = make_app(tmp_path, library=library)
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: app.loads.state == "missing")
        await ask(pilot, app, "hello")
        await wait_until(pilot, lambda: dialog_text(app))
        assert "no source answered" in dialog_text(app) and "proxy" in dialog_text(app)
        await pilot.press("m")
        await wait_until(pilot, lambda: isinstance(app.screen, ModelsScreen))
