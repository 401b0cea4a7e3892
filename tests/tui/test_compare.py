"""Side by side: two models, one prompt, where they part, and what is drawn of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_support import answered, ask, dialog_text, make_app, notes, wait_until
from compare_support import BLUE, RED, at_rest, difference, ink_at, opened, said, token_table
from fakes import FakeEngine, Script
from textual.widgets import Input

from quantchat.comparing.json_export import from_json
from quantchat.store.votes import Votes
from quantchat.tui.control.comparing import asking
from quantchat.tui.screens.compare import CompareScreen
from quantchat.tui.screens.compare_export import CompareExport
from quantchat.tui.screens.compare_side import CompareSide
from quantchat.tui.screens.dialog import Dialog
from quantchat.tui.widgets.bars import KeyBar
from quantchat.tui.widgets.compare_empty import CompareEmpty
from quantchat.tui.widgets.compare_lines import ModeLine, TokenTable
from quantchat.tui.widgets.tick_box import TickBox


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
        await pilot.press("ctrl+o")
        assert app.screen is screen
        await wait_until(pilot, lambda: "Escape leads there" in notes(app))
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, CompareScreen))
        await wait_until(pilot, lambda: engine.unloaded == ["left", "right"])
        await wait_until(pilot, lambda: app.comparison is None)
        await ask(pilot, app, "main still answers")
        await answered(pilot, app, 2)


def title_row(empty: CompareEmpty) -> int:
    """Where on the screen its first words stand."""
    lines = empty.render().plain.split("\n")
    return empty.region.y + next(at for at, line in enumerate(lines) if line)


async def test_the_next_round_is_asked_without_the_reasoning_of_the_last(tmp_path: Path) -> None:
    engine = FakeEngine([Script("<think>hm, colours</think>Blue it is"), RED])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = await opened(pilot, app)
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: len(engine.chats) == 2)
        await at_rest(pilot, screen)
        await ask(pilot, app, "and again?")
        await wait_until(pilot, lambda: len(engine.chats) == 4)
        answers = {chat.messages[1].content for chat in engine.chats[2:]}
        assert "Blue it is" in answers and not any("hm" in answer for answer in answers)


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_an_empty_pane_says_what_it_is_for(tmp_path: Path, size: tuple[int, int]) -> None:
    app = make_app(tmp_path, FakeEngine([BLUE, RED]))
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot, app)
        empty = list(screen.query(CompareEmpty))
        assert "This side writes" in empty[0].render().plain
        await pilot.press("f7")
        await wait_until(pilot, lambda: "This side scores" in empty[1].render().plain)
        if size[0] > 100:
            await wait_until(pilot, lambda: title_row(empty[0]) == title_row(empty[1]))
        assert all(
            len(line) <= size[0] for each in empty for line in each.render().plain.split("\n")
        )
        await pilot.press("f7", "f7")
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: not any(each.display for each in empty))
        await at_rest(pilot, screen)
        assert screen.left.tokens.display and "The sky is blue" in screen.left.text_on_screen()
        await pilot.press("ctrl+n")
        await wait_until(pilot, lambda: all(each.display for each in empty))
        assert not screen.left.tokens.display


async def test_at_a_token_a_narrow_key_line_tells_what_can_be_done_with_it(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([BLUE, RED]))
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, app)
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: screen.comparison.shown is not None)
        await at_rest(pilot, screen)
        assert "weights ÷3.40 (−181 MiB)" in difference(screen) and "…" not in difference(screen)
        line = screen.query_one(KeyBar)
        assert "f7 mode" in line.render().plain
        await pilot.press("alt+down")
        await wait_until(pilot, lambda: "^g go on from here" in line.render().plain)


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
        votes = app.screen.query_one("#kind-votes", TickBox)
        assert votes.render().plain.startswith("[ ]"), "what is not ticked looks so without colour"
        votes.value = True
        assert votes.render().plain.startswith("[x]")
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


@pytest.mark.parametrize("mode", ["free", "guided", "blind"])
async def test_answers_are_seen_in_a_short_terminal(tmp_path: Path, mode: str) -> None:
    app = make_app(tmp_path, FakeEngine([BLUE, RED]), compare_mode=mode)
    async with app.run_test(size=(40, 12)) as pilot:
        screen = await opened(pilot, app)
        await ask(pilot, app, "colour?")
        await wait_until(pilot, lambda: screen.comparison.shown is not None)
        await at_rest(pilot, screen)
        await wait_until(pilot, lambda: screen.right.tokens.region.height >= 2)
        assert screen.query_one("#difference").region.height == 1
        assert mode == "guided" or screen.left.tokens.region.height >= 2
