"""Side by side: two models, one prompt, in each mode, by every key."""

from __future__ import annotations

from pathlib import Path

from app_support import answered, ask, make_app, ready, wait_until
from fakes import FakeEngine, Script
from textual.pilot import Pilot

from quantchat.tui.app import QuantchatApp
from quantchat.tui.screens.compare import CompareScreen
from quantchat.tui.widgets.compare_lines import DifferenceLine

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
