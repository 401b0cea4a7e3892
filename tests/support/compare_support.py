"""Side by side in tests: opening it, what it says, in which ink a token stands."""

from __future__ import annotations

from app_support import ready, wait_until
from fakes import Script
from textual.pilot import Pilot
from textual.style import Style

from quantchat.tui.app import QuantchatApp
from quantchat.tui.screens.compare import CompareScreen
from quantchat.tui.widgets.compare_head import PaneHead
from quantchat.tui.widgets.compare_lines import DifferenceLine, TokenTable

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


def ink_at(screen: CompareScreen, place: int, token: int) -> Style:
    """The style in which a pane draws a token."""
    view = (screen.left, screen.right)[place].tokens
    last, inks = view._last, view._inks
    assert last is not None and inks is not None
    return view._ink(last, token, inks) or Style()
