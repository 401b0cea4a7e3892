"""Escape sequences of models, users and files are never written to the terminal."""

from __future__ import annotations

import re
from pathlib import Path

from app_support import answered, ask, make_app, ready, wait_until
from fakes import FakeEngine, Script
from rich.segment import Segment
from textual.color import Color
from textual.strip import Strip

from quantchat.tui.app import QuantchatApp
from quantchat.tui.unseen import UNSEEN
from quantchat.tui.widgets.chat_list import ChatList

HOSTILE = "a\x1b[2Jb\x1b]52;c;QUJD\x1b\\c\x9b31md\u202ee"
STEERS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def drawn(app: QuantchatApp) -> str:
    """Everything that the screen in front would write."""
    strips = app.screen._compositor.render_strips(app.size)
    return "".join(segment.text for strip in strips for segment in strip)


async def test_nothing_on_the_screen_steers_the_terminal(tmp_path: Path) -> None:
    script = Script([f"{HOSTILE}\n\n", f"```\n{HOSTILE}\n```\n\n", f"- {HOSTILE}\n", HOSTILE])
    app = make_app(tmp_path, FakeEngine([script]))
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, HOSTILE)
        await answered(pilot, app, 2)
        app.notify(HOSTILE)
        app.chat_screen.prompt.text = HOSTILE
        await wait_until(pilot, lambda: drawn(app).count("a[2Jb") >= 5)
        assert not STEERS.search(drawn(app))
        assert app.conversation.path[0].content == HOSTILE, "what was said is kept as it was"
        await pilot.press("ctrl+l")
        await wait_until(pilot, lambda: app.screen.query(ChatList))
        await wait_until(pilot, lambda: "Search titles" in drawn(app) and "Today" in drawn(app))
        assert not STEERS.search(drawn(app))


def test_rows_keep_their_widths() -> None:
    strip = Strip([Segment("plain "), Segment(HOSTILE)])
    filtered = strip.apply_filter(UNSEEN, Color(0, 0, 0))
    assert filtered.text == "plain a[2Jb]52;c;QUJD\\c31mde"
    assert filtered.cell_length == strip.cell_length == len(filtered.text)
    plain = Strip([Segment("plain")])
    assert plain.apply_filter(UNSEEN, Color(0, 0, 0)).text == "plain"
