"""Side by side: turns, sides, loads and engines that fail, and what is left then."""

from __future__ import annotations

from pathlib import Path

from app_support import ask, dialog_text, make_app, ready, wait_until
from compare_support import BLUE, RED, at_rest, difference, heads, opened, said
from fakes import FakeEngine, Script
from textual.widgets import DataTable, Input

from quantchat.settings.file import load_settings
from quantchat.tui.screens.compare import CompareScreen
from quantchat.tui.screens.compare_side import CompareSide
from quantchat.tui.screens.dialog import Dialog
from quantchat.tui.widgets.compare_lines import ModeLine


async def test_they_take_turns_where_both_do_not_fit(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE, RED], most_models=1)
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app)
        found = screen.comparison
        assert found.pair.taking_turns and not isinstance(app.screen, Dialog)
        assert engine.unloaded == ["main"] and app.loads.info is None
        await wait_until(pilot, lambda: "take turns" in screen.query_one(ModeLine).render().plain)
        assert "waits for its turn" in heads(screen)[1]
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: len(engine.chats) == 2)
        await at_rest(pilot, screen)
        assert "sky is blue" in screen.left.text_on_screen()
        assert "sky is red" in screen.right.text_on_screen()
        assert [each.slot for each in engine.chats] == ["left", "right"]
        assert list(engine.infos) == ["right"] and found.sides[0].memory is None
        await ask(pilot, app, "again?")
        await wait_until(pilot, lambda: len(engine.chats) == 4)
        await at_rest(pilot, screen)
        assert [each.slot for each in engine.chats[2:]] == ["right", "left"]
        record = found.record(())
        assert record is not None and record.took_turns and len(record.rounds) == 2
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, CompareScreen))
        await ready(pilot, app)
        assert list(engine.infos) == ["main"]


async def test_in_turns_the_right_scores_against_what_was_kept(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE], most_models=1)
    app = make_app(tmp_path, engine, compare_mode="guided")
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app)
        for asked in (1, 2):
            await ask(pilot, app, f"prompt {asked}")
            await wait_until(pilot, lambda: len(engine.scores.requests) == 2 * asked)  # noqa: B023
            await at_rest(pilot, screen)
            keep, scored = engine.scores.requests[-2:]
            assert (keep.slot, keep.base, keep.kept, keep.exact) == ("left", "", 0, True)
            assert scored.slot == "right" and scored.kept and scored.exact and not scored.base
            assert "4 of 4 tokens, exact" in difference(screen)
        assert len(engine.chats) == 2


async def test_the_chats_model_makes_room_before_they_take_turns(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE, RED], most_models=2)
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(120, 30)) as pilot:
        screen = await opened(pilot, app)
        assert not screen.comparison.pair.taking_turns
        assert set(engine.infos) == {"left", "right"}
        await pilot.press("ctrl+t")
        await ready(pilot, app)
        assert list(engine.infos) == ["main"]


async def test_a_side_is_any_model_scheme_and_kv(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE, RED])
    app = make_app(tmp_path, engine)
    library = app.library
    library.there["other"] = True
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, app)
        await pilot.press("f6")
        await wait_until(pilot, lambda: isinstance(app.screen, CompareSide))
        models, schemes = (app.screen.query_one(each, DataTable) for each in ("#models", "#table"))
        await wait_until(pilot, lambda: models.row_count == 2 and schemes.row_count == 7)
        await pilot.press("tab", "down", "enter")
        await wait_until(pilot, lambda: schemes.has_focus)
        await pilot.press("k")
        await wait_until(pilot, lambda: app.schemes.asked[-1].kv == "16bit")
        assert app.schemes.asked[-1].model == "other"
        await wait_until(pilot, lambda: schemes.row_count == 7)
        await pilot.press("up", "enter")
        side = screen.comparison.sides[1]
        await wait_until(pilot, lambda: side.info is not None and side.info.model == "other")
        assert side.info is not None and (side.info.scheme, side.info.kv) == ("int8", "16bit")
        saved, _ = load_settings(tmp_path / "settings.toml")
        assert (saved.compare_right_model, saved.compare_right_scheme) == ("other", "int8")
        assert saved.compare_right_kv == "16bit" and saved.compare_left_model == ""
        await pilot.press("f5")
        await wait_until(pilot, lambda: isinstance(app.screen, CompareSide))
        await pilot.press("o")
        await wait_until(pilot, lambda: app.screen.query("#answer"))
        app.screen.query_one("#answer", Input).value = "nowhere"
        await pilot.press("enter")
        await wait_until(pilot, lambda: said(app, "No model is called 'nowhere'"))
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, CompareScreen))


async def test_a_load_that_fails_leaves_ways_out(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE, RED], load_failures={"int4": ("no int4 here", "take int8")})
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        await pilot.press("ctrl+t")
        await wait_until(pilot, lambda: "no int4 here" in dialog_text(app))
        assert "right model" in dialog_text(app)
        await pilot.press("r")
        await wait_until(pilot, lambda: [each.scheme for each in engine.loads].count("int4") == 2)
        await wait_until(pilot, lambda: "no int4 here" in dialog_text(app))
        await pilot.press("o")
        await wait_until(pilot, lambda: isinstance(app.screen, CompareSide))
        await wait_until(pilot, lambda: app.screen.query_one("#table", DataTable).row_count)
        await pilot.press("up", "enter")
        screen = next(each for each in app.screen_stack if isinstance(each, CompareScreen))
        await wait_until(pilot, lambda: screen.comparison.ready)
        assert screen.comparison.sides[1].scheme == "int8"
        side = screen.comparison.sides[1]
        screen._choose(side, type(side.choice)(model="", scheme="int4", kv="auto"))
        await wait_until(pilot, lambda: "no int4 here" in dialog_text(app))
        await pilot.press("c")
        assert side.loaded and side.scheme == "int8" == side.choice.scheme
        assert app.preferences.settings.compare_right_scheme == "int8"
        assert screen.comparison.ready


async def test_a_cancelled_load_is_had_again(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE, RED], hold_phase="quantize")
    app = make_app(tmp_path, engine)
    engine.hold_phase = None
    async with app.run_test(size=(120, 30)) as pilot:
        await ready(pilot, app)
        engine.hold_phase = "quantize"
        await pilot.press("ctrl+t")
        await wait_until(pilot, lambda: isinstance(app.screen, CompareScreen))
        screen = app.screen
        assert isinstance(screen, CompareScreen)
        await wait_until(pilot, lambda: screen.comparison.sides[0].progress is not None)
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: screen.comparison.waiting)
        await pilot.press("escape")
        await wait_until(pilot, lambda: "loading was cancelled" in " ".join(heads(screen)))
        assert not screen.comparison.waiting and not engine.chats
        engine.hold_phase = None
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: len(engine.chats) == 2)
        assert len(engine.chats[0].messages) == 1


async def test_an_error_in_one_side_keeps_the_other(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE, Script("a b c d", fail_after=2), BLUE, RED])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(120, 30)) as pilot:
        screen = await opened(pilot, app)
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: "not enough memory for the KV cache" in dialog_text(app))
        await pilot.press("c")
        await at_rest(pilot, screen)
        assert "sky is blue" in screen.left.text_on_screen()
        assert "failed: not enough memory" in screen.right.text_on_screen()
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: len(engine.chats) == 4)
        await at_rest(pilot, screen)
        assert "sky is red" in screen.right.text_on_screen()
        assert [each.content for each in engine.chats[-1].messages] == ["colour?"]


async def test_what_cannot_be_scored_is_said_once(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE])
    engine.scores.failure = ("the vocabularies differ", "compare models of one family")
    app = make_app(tmp_path, engine, compare_mode="guided")
    async with app.run_test(size=(120, 30)) as pilot:
        screen = await opened(pilot, app)
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: "the vocabularies differ" in dialog_text(app))
        await pilot.press("escape")
        await at_rest(pilot, screen)
        assert "not scored: the vocabularies differ" in screen.right.text_on_screen()
        assert "not scored" in difference(screen) and isinstance(app.screen, CompareScreen)
        assert "sky is blue" in screen.left.text_on_screen()


async def test_a_dead_engine_is_survived(tmp_path: Path) -> None:
    engine = FakeEngine([Script("on and on ", endless=True)])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(120, 30)) as pilot:
        screen = await opened(pilot, app)
        await ask(pilot, app, "go")
        await wait_until(pilot, lambda: "on and" in screen.right.text_on_screen())
        engine.hold_answers = True
        engine.die("the engine crashed")
        await wait_until(pilot, lambda: "crashed" in dialog_text(app))
        assert not screen.comparison.answering
        await pilot.press("r")
        await wait_until(pilot, lambda: app.engine is not engine and app.loads.ready)
        fresh = await opened(pilot, app)
        assert fresh is not screen
