"""Every failure is said, leaves a way out, and keeps what was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_support import (
    FakeLibrary,
    answered,
    ask,
    dialog_text,
    fake,
    make_app,
    notes,
    ready,
    shown,
    wait_until,
)
from fakes import FakeEngine, Script
from textual.widgets import Button, TextArea
from transfer_support import FakeTransfers

from quantchat.errors import DownloadError
from quantchat.requests import WayOut
from quantchat.tui.app import QuantchatApp
from quantchat.tui.screens.dialog import Dialog
from quantchat.tui.screens.log import LogScreen, log_tail
from quantchat.tui.screens.models import ModelsScreen
from quantchat.tui.screens.schemes import SchemesScreen

WAYS = (
    WayOut(field="scheme", value="int4", words="scheme int4: 84 MiB of weights instead of 256 MiB"),
    WayOut(
        field="context_tokens",
        value=1024,
        words="a context of 1024 tokens: 22 MiB of KV cache instead of 45 MiB",
    ),
    WayOut(field="kv", value="int8", words="int8 KV: 22 MiB of KV cache instead of 45 MiB"),
    WayOut(field="device", value="cpu", words="the device cpu: 8.00 GiB of memory free"),
)


def way_labels(app: QuantchatApp) -> list[str]:
    """The ways out of the dialog in front."""
    return [str(button.label) for button in app.screen.query(Button)]


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


async def test_a_question_without_a_model_is_kept_and_the_way_to_models_told(
    tmp_path: Path,
) -> None:
    engine = FakeEngine(load_failures={"fp16": ("no room for 16 bits", "take int4")})
    app = make_app(tmp_path, engine, scheme="fp16")
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: dialog_text(app))
        await pilot.press("c")
        await ask(pilot, app, "anyone?")
        await wait_until(pilot, lambda: "No model is loaded: ^o leads to them" in notes(app))
        app.switching.take("int4", "auto")
        await answered(pilot, app, 2)


@pytest.mark.parametrize(("key", "kind"), [("s", SchemesScreen), ("m", ModelsScreen)])
async def test_a_failed_first_load_leads_to_other_schemes_and_models(
    tmp_path: Path, key: str, kind: type
) -> None:
    engine = FakeEngine(load_failures={"fp16": ("no room for 16 bits", "take int4")})
    app = make_app(tmp_path, engine, scheme="fp16")
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: dialog_text(app))
        await wait_until(pilot, lambda: len(app.screen.query(Button)) == 6)
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
        await wait_until(pilot, lambda: dialog_text(app))
        assert app.preferences.settings.scheme == "fp16"
        assert app.loads.info is not None and app.loads.info.scheme == "fp16"
        assert "no kernel [/for] it" in dialog_text(app) and "choose int8" in dialog_text(app)
        assert "starter fp16 goes on answering" in dialog_text(app)
        engine.load_failures.clear()
        await pilot.press("r")
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.scheme == "int4")
        assert app.preferences.settings.scheme == "int4"
        await ask(pilot, app, "still there?")
        await answered(pilot, app, 2)


@pytest.mark.parametrize(
    ("key", "field", "value", "size"),
    [
        ("1", "scheme", "int4", (80, 24)),
        ("2", "context_tokens", 1024, (120, 40)),
        ("3", "kv", "int8", (80, 24)),
        ("4", "device", "cpu", (120, 40)),
    ],
)
async def test_each_way_out_of_a_lack_of_memory_loads(
    tmp_path: Path, key: str, field: str, value: object, size: tuple[int, int]
) -> None:
    engine = FakeEngine(load_failures={"fp16": ("no room", "less")}, load_ways=WAYS)
    app = make_app(tmp_path, engine, scheme="fp16")
    async with app.run_test(size=size) as pilot:
        await wait_until(pilot, lambda: dialog_text(app))
        assert "22 MiB of KV cache instead of 45 MiB" in dialog_text(app)
        await wait_until(pilot, lambda: len(app.screen.query(Button)) == 9)
        ways = list(app.screen.query(Button))
        await wait_until(pilot, lambda: ways[-1].region.width)
        for way in ways:
            assert app.screen.query_one("#box").region.contains_region(way.region), way.label
        engine.load_failures.clear()
        await pilot.press(key)
        await ready(pilot, app)
        assert app.preferences.settings.value(field) == value
        assert getattr(engine.loads[-1], field) == value


async def test_a_way_out_of_a_failed_answer_loads_and_answers_again(tmp_path: Path) -> None:
    scripts = [Script("a b c d e f g h", fail_after=3, ways=WAYS), Script("whole")]
    app = make_app(tmp_path, FakeEngine(scripts))
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "go")
        await wait_until(pilot, lambda: "Context of 1,024 tokens (2)" in way_labels(app))
        await pilot.press("2")
        await wait_until(pilot, lambda: "whole" in shown(app))
        assert fake(app).loads[-1].context_tokens == 1024
        app.writer.flush()
        versions = app.chats.siblings(app.conversation.path[-1].id)
        assert [turn.content for turn in versions] == ["a b c", "whole"]


async def test_the_part_of_a_failed_answer_can_be_continued(tmp_path: Path) -> None:
    scripts = [Script("a b c d e f g h", fail_after=3), Script(" and on")]
    app = make_app(tmp_path, FakeEngine(scripts))
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "go")
        await wait_until(pilot, lambda: dialog_text(app))
        await pilot.press("g")
        await wait_until(pilot, lambda: "a b c and on" in shown(app))


async def test_a_message_that_got_no_answer_is_edited_with_one_key(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("a b", fail_after=0), Script("whole")]))
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "too long")
        await wait_until(pilot, lambda: "There is no answer" in dialog_text(app))
        assert "Continue it (g)" not in way_labels(app)
        await pilot.press("d")
        prompt = app.chat_screen.prompt
        await wait_until(pilot, lambda: prompt.has_focus and prompt.text == "too long")
        await pilot.press("backspace", "enter")
        await wait_until(pilot, lambda: "whole" in shown(app))
        assert [turn.content for turn in app.conversation.path] == ["too lon", "whole"]


async def test_what_answers_is_not_offered_instead(tmp_path: Path) -> None:
    engine = FakeEngine(load_failures={"fp8": ("no kernel for it", "")})
    app = make_app(tmp_path, engine, scheme="int4")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        app.set_value("scheme", "fp8")
        await wait_until(pilot, lambda: dialog_text(app))
        assert "starter int4 goes on answering" in dialog_text(app)
        assert "Try again (r)" in way_labels(app) and "Try int4 (4)" not in way_labels(app)


async def test_a_stuck_engine_can_be_started_anew_from_a_failed_answer(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("a b c d", fail_after=2)]))
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        before = fake(app)
        await ask(pilot, app, "go")
        await wait_until(pilot, lambda: dialog_text(app))
        await pilot.press("e")
        await wait_until(pilot, lambda: app.engine is not before and app.loads.ready)
        await wait_until(pilot, lambda: before.closed)
        await ask(pilot, app, "again")
        await answered(pilot, app, 4)


async def test_the_log_is_shown_above_the_dialog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTCHAT_HOME", str(tmp_path))
    log_file = tmp_path / "log" / "quantchat.log"
    log_file.parent.mkdir()
    log_file.write_text("one\nTraceback \x1b[2J of something\n")
    engine = FakeEngine(load_failures={"fp16": ("no room", "")})
    app = make_app(tmp_path, engine, scheme="fp16")
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: dialog_text(app))
        await pilot.press("l")
        await wait_until(pilot, lambda: isinstance(app.screen, LogScreen))
        area = app.screen.query_one(TextArea)
        await wait_until(pilot, lambda: area.text == "one\nTraceback  [2J of something")
        log_file.write_text("two\n")
        await pilot.press("r")
        await wait_until(pilot, lambda: area.text == "two")
        await pilot.press("c")
        await wait_until(pilot, lambda: app.clipboard == "two")
        await pilot.press("escape")
        await wait_until(pilot, lambda: "no room" in dialog_text(app))
        await pilot.press("c")
        await wait_until(pilot, lambda: not isinstance(app.screen, Dialog))


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    assert "cannot be read" in log_tail(path)
    path.write_bytes(b"")
    assert log_tail(path) == "The log is empty."
    path.write_bytes(b"first\n" + b"x" * 300_000 + b"\nlast \xff\n")
    assert log_tail(path) == "last \ufffd"


async def test_a_first_load_that_was_cancelled_is_one_key_away(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    fake(app).hold_loads = True
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: app.loads.state == "loading")
        await pilot.press("escape")
        await wait_until(pilot, lambda: "loading was cancelled" in dialog_text(app))
        fake(app).hold_loads = False
        await pilot.press("r")
        await ready(pilot, app)


async def test_arrows_and_the_mouse_choose_a_way_out(tmp_path: Path) -> None:
    engine = FakeEngine(load_failures={"fp16": ("no room for 16 bits", "take int4")})
    app = make_app(tmp_path, engine, scheme="fp16")
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: dialog_text(app))
        ways = list(app.screen.query(Button))
        await wait_until(pilot, lambda: ways[0].has_focus)
        for key, at in (("right", 1), ("down", 2), ("left", 1), ("up", 0)):
            await pilot.press(key)
            await wait_until(pilot, lambda at=at: ways[at].has_focus)
        await pilot.press("right", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, SchemesScreen))
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.chat_screen)
        app.loads.want(app.preferences.load_request())
        await wait_until(pilot, lambda: dialog_text(app))
        await wait_until(pilot, lambda: app.screen.query("#way-2").first().region.width)
        await pilot.click("#way-2")
        await ready(pilot, app)
        assert app.preferences.settings.scheme == "int4"


async def test_keys_that_were_meant_for_the_prompt_take_no_way_out(tmp_path: Path) -> None:
    engine = FakeEngine(load_failures={"int4": ("no kernel for it", "")})
    app = make_app(tmp_path, engine, scheme="fp16")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await pilot.press("h", "e")
        await wait_until(pilot, lambda: app.chat_screen.prompt.text == "he")
        app.set_value("scheme", "int4")
        await wait_until(pilot, lambda: dialog_text(app))
        await pilot.press("r")
        assert isinstance(app.screen, Dialog) and len(engine.loads) == 2


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
        assert len(app.screen_stack) == 2, "one dialog, not one for the answer and one for the end"
        await pilot.press("r")
        await wait_until(pilot, lambda: app.engine is not dead and app.loads.ready)
        await ask(pilot, app, "again")
        await answered(pilot, app, 4)


async def test_a_dead_engine_is_said_again_and_revived_by_the_next_load(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        dead = fake(app)
        dead.die("the engine crashed")
        await wait_until(pilot, lambda: "crashed" in dialog_text(app))
        await pilot.press("c")
        await wait_until(pilot, lambda: not isinstance(app.screen, Dialog))
        await ask(pilot, app, "anybody there?")
        await wait_until(pilot, lambda: "crashed" in dialog_text(app))
        assert app.chat_screen.prompt.text == "anybody there?"
        await pilot.press("escape")
        app.switching.take("int4", "auto")
        await ready(pilot, app)
        assert app.engine is not dead and fake(app).loads[-1].scheme == "int4"
        await ask(pilot, app, "and now?")
        await answered(pilot, app, 2)


async def test_a_missing_model_is_one_key_away(tmp_path: Path) -> None:
    library = FakeLibrary(on_disk=False)
    transfers = FakeTransfers(library.there)
    transfers.hold = True
    app = make_app(tmp_path, library=library, transfers=transfers)
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: app.loads.state == "missing")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "12 s left" in app.status.activity()[0])
        assert "46.9 MiB of 93.8 MiB" in app.status.activity()[0]
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.loads.state == "missing")
        transfers.hold = False
        await pilot.press("enter")
        await ready(pilot, app)


async def test_no_source_answering_says_what_to_do(tmp_path: Path) -> None:
    library = FakeLibrary(on_disk=False)
    transfers = FakeTransfers(library.there)
    transfers.error = DownloadError("no source answered", hint="check the proxy")
    app = make_app(tmp_path, library=library, transfers=transfers)
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: app.loads.state == "missing")
        await ask(pilot, app, "hello")
        await wait_until(pilot, lambda: dialog_text(app))
        assert "no source answered" in dialog_text(app) and "proxy" in dialog_text(app)
        await pilot.press("m")
        await wait_until(pilot, lambda: isinstance(app.screen, ModelsScreen))
