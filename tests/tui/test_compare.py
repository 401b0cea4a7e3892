"""Side by side: two models, one prompt, in each mode, by every key."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_support import answered, ask, make_app, ready, wait_until
from fakes import FakeEngine, Script
from textual.pilot import Pilot
from textual.style import Style
from textual.widgets import Checkbox, DataTable, Input, Static

from quantchat.comparing.json_export import from_json
from quantchat.settings.file import load_settings
from quantchat.store.votes import Tally, Votes
from quantchat.tui.app import QuantchatApp
from quantchat.tui.control.comparing import asking
from quantchat.tui.screens.compare import CompareScreen
from quantchat.tui.screens.compare_export import CompareExport
from quantchat.tui.screens.compare_side import CompareSide
from quantchat.tui.screens.dialog import Dialog
from quantchat.tui.widgets.compare_lines import DifferenceLine, ModeLine, TokenTable
from quantchat.tui.widgets.compare_pane import PaneHead

BLUE = Script(["The", " sky", " is", " blue"])
RED = Script(["The", " sky", " is", " red"])


async def opened(pilot: Pilot[None], app: QuantchatApp) -> CompareScreen:
    """The screen with both models loaded."""
    await ready(pilot, app)
    await pilot.press("ctrl+t")
    await wait_until(pilot, lambda: isinstance(app.screen, CompareScreen))
    screen = app.screen
    assert isinstance(screen, CompareScreen)
    await wait_until(pilot, lambda: screen.comparison.ready)
    return screen


def engine_of(app: QuantchatApp) -> FakeEngine:
    assert isinstance(app.engine, FakeEngine)
    return app.engine


async def at_rest(pilot: Pilot[None], screen: CompareScreen) -> None:
    """Nothing streams, is scored, or waits; figures are drawn."""
    found = screen.comparison
    await wait_until(
        pilot,
        lambda: not (found.answering or found.waiting or found.scoring) and not screen._stale,
    )


def difference(screen: CompareScreen) -> str:
    return screen.query_one(DifferenceLine).render().plain


def token_table(screen: CompareScreen) -> str:
    return screen.query_one(TokenTable).render().plain


def heads(screen: CompareScreen) -> list[str]:
    return [each.render().plain for each in screen.query(PaneHead)]


def said(app: QuantchatApp, words: str) -> bool:
    return any(words in each.message for each in app._notifications)


def dialog_text(app: QuantchatApp) -> str:
    """What the dialog in front says; nothing while there is none."""
    if not isinstance(app.screen, Dialog):
        return ""
    return "\n".join(str(each.content) for each in app.screen.query(Static))


def ink_at(screen: CompareScreen, place: int, token: int) -> Style:
    """The style in which a pane draws a token."""
    view = (screen.left, screen.right)[place].tokens
    last, inks = view._last, view._inks
    assert last is not None and inks is not None
    return view._ink(last, token, inks) or Style()


async def test_both_stream_and_the_difference_is_told(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE, RED])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app)
        assert [side.scheme for side in screen.comparison.sides] == ["fp16", "int4"]
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: len(engine.chats) == 2)
        await at_rest(pilot, screen)
        assert "The sky is blue" in screen.left.text_on_screen()
        assert "The sky is red" in screen.right.text_on_screen()
        assert engine.chats[0].sampling.seed == engine.chats[1].sampling.seed is not None
        await wait_until(pilot, lambda: "decode 3.40×" in difference(screen))
        assert "÷3.40" in difference(screen) and "saved" in difference(screen)
        assert 'same for 3 tokens, then " blue" / " red"' in difference(screen)
        await ask(pilot, app, "and again?")
        await wait_until(pilot, lambda: len(engine.chats) == 4)
        await at_rest(pilot, screen)
        assert len(engine.chats[-1].messages) == 3
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, CompareScreen))
        await wait_until(pilot, lambda: engine.unloaded == ["left", "right"])
        await wait_until(pilot, lambda: app.comparison is None)
        await ask(pilot, app, "main still answers")
        await answered(pilot, app, 2)


async def test_the_parting_is_marked_and_both_models_look_at_it(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE, RED])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app)
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: len(engine.chats) == 2)
        await at_rest(pilot, screen)
        marked = [ink_at(screen, place, 3).reverse for place in (0, 1)]
        assert marked == [True, True] and not ink_at(screen, 0, 2).reverse
        await pilot.press("alt+down")
        assert screen.comparison.cursor.at == 3
        await wait_until(pilot, lambda: "KL" in token_table(screen))
        assert '" blue" / " red"' in token_table(screen)
        request = engine.scores.requests[-1]
        assert (request.slot, request.base, request.first) == ("right", "left", 3)
        assert len(request.answer_ids) == 4
        await pilot.press("alt+left")
        assert screen.comparison.cursor.at == 2
        await pilot.press("alt+right", "alt+right", "alt+right")
        assert screen.comparison.cursor.at == 3
        await pilot.press("alt+down")
        await wait_until(pilot, lambda: said(app, "No token differs further on"))
        await pilot.press("alt+left", "alt+left", "alt+up")
        await wait_until(pilot, lambda: said(app, "None differs before"))


async def test_both_go_on_from_a_token(tmp_path: Path) -> None:
    more = Script([" and", " wide"])
    engine = FakeEngine([BLUE, RED, more, Script([" at", " dusk"])])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app)
        await pilot.press("ctrl+g")
        await wait_until(pilot, lambda: said(app, "Choose a token first"))
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: len(engine.chats) == 2)
        await at_rest(pilot, screen)
        await pilot.press("alt+down", "ctrl+g")
        await wait_until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press("2")
        await wait_until(pilot, lambda: len(engine.chats) == 4)
        await at_rest(pilot, screen)
        words = [engine.vocabulary.text(each) for each in engine.chats[-1].prefix_ids]
        assert words == ["The", " sky", " is", " red"]
        assert engine.chats[-1].prefix_ids == engine.chats[-2].prefix_ids
        assert [each.role for each in engine.chats[-1].messages] == ["user"]
        assert "The sky is red and wide" in screen.left.text_on_screen()
        assert "The sky is red at dusk" in screen.right.text_on_screen()
        await ask(pilot, app, "and then?")
        await wait_until(pilot, lambda: len(engine.chats) == 6)
        assert engine.chats[-2].messages[1].content == "The sky is red and wide"
        record = screen.comparison.record(())
        assert record is not None and record.rounds[1].prefix_ids == engine.chats[2].prefix_ids
        assert record.rounds[1].left.text == " and wide"


async def test_guided_the_right_scores_what_the_left_writes(tmp_path: Path) -> None:
    words = [f" w{number}" for number in range(40)]
    engine = FakeEngine([Script(words)], tokens_per_drain=2)
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app)
        await pilot.press("f7")
        assert screen.comparison.mode == "guided"
        await ask(pilot, app, "write")
        await wait_until(pilot, lambda: len(engine.scores.requests) > 2)
        live = [each for each in engine.scores.requests if not each.exact]
        assert len(live) > 1 and [each.first for each in live] == sorted(
            {each.first for each in live}
        )
        await at_rest(pilot, screen)
        assert len(engine.chats) == 1 and engine.chats[0].slot == "left"
        exact = engine.scores.requests[-1]
        assert exact.exact and exact.first == 0 and len(exact.answer_ids) == len(words)
        assert "w39" in screen.left.text_on_screen() and "w39" in screen.right.text_on_screen()
        assert "40 of 40 tokens, exact" in difference(screen)
        shown = screen.comparison.shown
        assert shown is not None
        far = max(range(40), key=lambda at: shown.known_scores[at].kl or 0)
        assert ink_at(screen, 1, far) != ink_at(screen, 0, far)
        by_kl = [ink_at(screen, 1, at) for at in range(40)]
        await pilot.press("f9")
        assert [ink_at(screen, 1, at) for at in range(40)] != by_kl
        apart = next(at for at, each in enumerate(shown.known_scores) if not each.same_top)
        await pilot.press("alt+down")
        assert screen.comparison.cursor.at == apart
        await wait_until(pilot, lambda: f"token {apart + 1} " in token_table(screen))
        assert token_table(screen).count("%") >= 12
        record = screen.comparison.record(())
        assert record is not None and record.rounds[0].right is None
        assert len(record.rounds[0].scores) == 40


async def test_what_was_written_until_escape_is_scored(tmp_path: Path) -> None:
    engine = FakeEngine([Script("on and on ", endless=True)])
    app = make_app(tmp_path, engine, compare_mode="guided")
    async with app.run_test(size=(120, 30)) as pilot:
        screen = await opened(pilot, app)
        await ask(pilot, app, "write")
        await wait_until(pilot, lambda: "on and on" in screen.right.text_on_screen())
        engine.scores.tokens_per_drain = 1
        await pilot.press("escape")
        await wait_until(pilot, lambda: engine.scores.requests[-1].exact)
        shown = screen.comparison.shown
        assert shown is not None and shown.left.state == "stopped"
        await pilot.press("escape")
        await at_rest(pilot, screen)
        assert not shown.exact and isinstance(app.screen, CompareScreen)


async def test_the_next_prompt_does_not_wait_for_scores(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE])
    app = make_app(tmp_path, engine, compare_mode="guided")
    async with app.run_test(size=(120, 30)) as pilot:
        screen = await opened(pilot, app)
        engine.scores.held = True
        await ask(pilot, app, "one")
        await wait_until(pilot, lambda: screen.comparison.scoring)
        await ask(pilot, app, "two")
        await wait_until(pilot, lambda: len(engine.chats) == 2)
        said = [each.content for each in engine.chats[1].messages]
        assert said == ["one", "The sky is blue", "two"]
        engine.scores.held = False
        await at_rest(pilot, screen)
        first, second = screen.comparison.rounds
        assert second.exact and not first.exact


async def test_blind_nothing_tells_which_is_which(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE, RED])
    app = make_app(tmp_path, engine, compare_mode="blind")
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app)
        engine.hold_answers = True
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: len(engine.chats) == 2)
        await wait_until(pilot, lambda: "both write" in difference(screen))
        engine.hold_answers = False
        await wait_until(pilot, lambda: "Which answer is better?" in difference(screen))
        everything = "\n".join(
            [screen.left.text_on_screen(), screen.right.text_on_screen(), *heads(screen)]
        )
        assert "sky is blue" in everything and "sky is red" in everything
        for word in ("fp16", "int4", "tok/s", "bits", "left", "right"):
            assert word not in everything
        swapped = "red" in screen.left.text_on_screen()
        await pilot.press("2")
        await wait_until(pilot, lambda: "fp16" in " ".join(heads(screen)))
        shown = screen.comparison.shown
        assert shown is not None and shown.choice == ("left" if swapped else "right")
        votes = Votes(app.chats.database)
        await wait_until(pilot, lambda: votes.all())
        left, right = (side.contender for side in screen.comparison.sides)
        first = Tally(left=int(swapped), right=int(not swapped), ties=0)
        assert votes.tally(left, right) == first
        await wait_until(pilot, lambda: "ties 0" in difference(screen))
        for key in ("0", "1"):
            await wait_until(pilot, lambda: screen.prompt.has_focus)
            await ask(pilot, app, "another")
            await wait_until(pilot, lambda: "Which answer is better?" in difference(screen))
            assert [each.content for each in engine.chats[-1].messages] == ["another"]
            await pilot.press(key)
        await wait_until(pilot, lambda: len(votes.all()) == 3)
        chosen = [each.choice for each in votes.all()]
        shown = screen.comparison.shown
        assert shown is not None and chosen[1:] == ["tie", shown.name_at(0)]
        await wait_until(pilot, lambda: screen.prompt.has_focus)
        await ask(pilot, app, "not voted")
        await wait_until(pilot, lambda: "Which answer is better?" in difference(screen))
        await pilot.press("escape")
        await wait_until(pilot, lambda: "fp16" in " ".join(heads(screen)))
        assert len(votes.all()) == 3
        await pilot.press("f7")
        assert screen.comparison.mode == "free" and not screen.comparison.rounds


async def test_a_clicked_answer_is_a_vote(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([BLUE, RED]), compare_mode="blind")
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app)
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: "Which answer is better?" in difference(screen))
        line = screen.query_one(DifferenceLine)
        at = line.render().plain.index("the second")
        shown = screen.comparison.shown
        assert shown is not None
        while shown.choice is None:
            await pilot.click(DifferenceLine, offset=(at, 0))
        assert shown.choice == shown.name_at(1)


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


async def test_files_say_what_was_compared(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE, RED])
    app = make_app(tmp_path, engine)
    Votes(app.chats.database)
    async with app.run_test(size=(120, 30)) as pilot:
        screen = await opened(pilot, app)
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: len(engine.chats) == 2)
        await at_rest(pilot, screen)
        await pilot.press("f8")
        await wait_until(pilot, lambda: isinstance(app.screen, CompareExport))
        app.screen.query_one("#answer", Input).value = str(tmp_path / "out")
        app.screen.query_one("#kind-votes", Checkbox).value = True
        await pilot.press("enter")
        await wait_until(pilot, lambda: said(app, str(tmp_path / "out")))
        files = {path.suffix: path for path in (tmp_path / "out").iterdir()}
        assert set(files) == {".md", ".json", ".svg", ".csv"}
        comparison = from_json(files[".json"].read_text())
        assert comparison.left.scheme == "fp16" and comparison.right.scheme == "int4"
        assert comparison.rounds[0].left.text == "The sky is blue"
        assert dict(comparison.versions)["quantchat"]
        assert files[".csv"].read_text().startswith("time,prompt,")
        (tmp_path / "taken").write_text("a file")
        await pilot.press("f8")
        await wait_until(pilot, lambda: isinstance(app.screen, CompareExport))
        assert app.screen.query_one("#answer", Input).value == str(tmp_path / "out")
        app.screen.query_one("#answer", Input).value = str(tmp_path / "taken")
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "cannot be written" in dialog_text(app))


async def test_the_mouse_moves_the_cursor_and_chooses(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE, RED])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app)
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: len(engine.chats) == 2)
        await at_rest(pilot, screen)
        row = next(
            row
            for row, text in enumerate(screen.left.text_on_screen().splitlines())
            if "sky is blue" in text
        )
        cursor = screen.comparison.cursor
        await pilot.click("#tokens-left", offset=(2 + 5, row))
        await wait_until(pilot, lambda: (cursor.at, cursor.near) == (1, "left"))
        await pilot.click("#tokens-left", offset=(60, row))
        assert cursor.at == 1
        await wait_until(pilot, lambda: screen.prompt.has_focus)
        view = screen.left.tokens
        plain = view.render_line(row)
        await pilot.mouse_down(view, offset=(6, row))
        await pilot.hover(view, offset=(12, row))
        await pilot.mouse_up(view, offset=(12, row))
        await wait_until(pilot, lambda: screen.get_selected_text() == "sky is ")
        assert list(view.render_line(row)) != list(plain) and cursor.at == 1
        at = screen.query_one(ModeLine).render().plain.index("guided")
        await pilot.click(ModeLine, offset=(at, 0))
        await wait_until(pilot, lambda: screen.comparison.mode == "guided")
        assert app.preferences.settings.compare_mode == "guided"
        titles = {each.title for each in app.get_system_commands(screen)}
        assert {"Mode: blind", "Choose the left side", "Export the comparison"} <= titles
        await pilot.click("#pane-left PaneHead", offset=(2, 0))
        await wait_until(pilot, lambda: isinstance(app.screen, CompareSide))


async def test_markdown_is_a_key_away(tmp_path: Path) -> None:
    text = "# Blue\n\nThe **sky**\n\n```py\nprint(1)\n```\n"
    engine = FakeEngine([Script([text])])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app)
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: len(engine.chats) == 2)
        await at_rest(pilot, screen)
        assert "**sky**" in screen.left.text_on_screen()
        await pilot.press("f9")
        await wait_until(pilot, lambda: "The sky" in screen.left.text_on_screen())
        await ask(pilot, app, "and?")
        await wait_until(pilot, lambda: len(engine.chats) == 4)
        await at_rest(pilot, screen)
        await wait_until(pilot, lambda: screen.right.text_on_screen().count("The sky") == 2)
        screen.action_copy_code(screen.left._key(1), 0)
        await wait_until(pilot, lambda: said(app, "code"))
        assert app._clipboard == "print(1)\n" or app._clipboard == "print(1)"
        await pilot.press("alt+right")
        await wait_until(pilot, lambda: "**sky**" in screen.left.text_on_screen())
        await pilot.press("f9", "ctrl+n")
        assert not screen.comparison.rounds and "sky" not in screen.left.text_on_screen()


async def test_a_long_comparison_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ROUNDS_KEPT", 2)
    monkeypatch.setattr(asking, "SCORES_KEPT", 5)
    engine = FakeEngine([BLUE])
    app = make_app(tmp_path, engine, compare_mode="guided")
    async with app.run_test(size=(120, 30)) as pilot:
        screen = await opened(pilot, app)
        for number in range(4):
            await ask(pilot, app, f"prompt {number}")
            await wait_until(pilot, lambda: len(engine.chats) == number + 1)  # noqa: B023
            await at_rest(pilot, screen)
        first, last = screen.comparison.rounds
        assert last.scores[0] is not None and len(last.scores[0].top) == 5
        assert first.scores[0] is not None and first.scores[0].kl is not None
        await ask(pilot, app, "last")
        await wait_until(pilot, lambda: len(engine.chats) == 5)
        await at_rest(pilot, screen)
        text = screen.right.text_on_screen()
        assert "prompt 3" in text and "last" in text and "prompt 2" not in text
        assert text.count("sky is blue") == 2
        assert len(engine.chats[-1].messages) == 9


async def test_narrow_panes_stand_above_each_other(tmp_path: Path) -> None:
    engine = FakeEngine([BLUE, RED])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, app)
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: len(engine.chats) == 2)
        await at_rest(pilot, screen)
        assert screen.left.region.bottom == screen.right.region.y
        assert screen.left.region.width == 80
        await pilot.press("alt+down")
        await wait_until(pilot, lambda: screen.query_one(TokenTable).region.height == 7)
        await wait_until(pilot, lambda: screen.left.tokens.size.height == 4)
        for pane in (screen.left, screen.right):
            top = pane.tokens.scroll_offset.y
            lines = pane.text_on_screen().splitlines()
            seen = "\n".join(lines[top : top + pane.tokens.size.height])
            assert "The sky is" in seen
        await pilot.press("f7")
        await ask(pilot, app, "guided now")
        await wait_until(pilot, lambda: len(engine.chats) == 3)
        await at_rest(pilot, screen)
        await wait_until(pilot, lambda: screen.left.region.height <= 2)
        assert screen.right.tokens.region.height >= 8
