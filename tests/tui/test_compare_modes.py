"""Side by side in guided and blind mode: scores, votes, what must not be told."""

from __future__ import annotations

from pathlib import Path

from app_support import ask, make_app, wait_until
from compare_support import (
    BLUE,
    RED,
    at_rest,
    difference,
    heads,
    ink_at,
    opened,
    token_table,
)
from fakes import FakeEngine, Script

from quantchat.store.votes import Tally, Votes
from quantchat.tui.screens.compare import CompareScreen
from quantchat.tui.widgets.compare_lines import DifferenceLine


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
        await pilot.press("1")
        await wait_until(pilot, lambda: screen.prompt.text == "1")
        engine.hold_answers = False
        await wait_until(pilot, lambda: "Which answer is better?" in difference(screen))
        everything = "\n".join(
            [screen.left.text_on_screen(), screen.right.text_on_screen(), *heads(screen)]
        )
        assert "sky is blue" in everything and "sky is red" in everything
        for word in ("fp16", "int4", "tok/s", "bits", "left", "right"):
            assert word not in everything
        swapped = "red" in screen.left.text_on_screen()
        await pilot.press("backspace")
        await wait_until(pilot, lambda: app.focused is None)
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
