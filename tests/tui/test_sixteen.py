"""The terminal's own 16 colours: fields have edges, what has the focus and what is chosen is seen."""

from __future__ import annotations

import re
from pathlib import Path

from app_support import make_app, ready, wait_until
from textual.content import Content
from textual.widgets import Input, OptionList, Select, TextArea

from quantchat.tui import screens
from quantchat.tui.screens.options import OptionsScreen
from quantchat.tui.screens.themes import ThemesScreen

FOR_ALL = {"chat.tcss"}
"""Loaded with the app, and meant for every screen."""
NAMES_OF_ITS_OWN = {"compare.tcss"}


async def test_fields_have_edges_and_the_focus_is_seen(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await pilot.press("f8")
        await wait_until(pilot, lambda: isinstance(app.screen, OptionsScreen))
        title, tags = (app.screen.query_one(f"#opt-{name}", Input) for name in ("title", "tags"))
        text = app.screen.query_one("#opt-prompt", TextArea)
        size = title.size
        assert title.styles.border_left[0] == "", "grounds are enough where there are many colours"
        app.looks.preview("sixteen")
        title.focus()
        await wait_until(pilot, lambda: title.styles.border_left[0] == "outer")
        assert tags.styles.border_left[0] == text.styles.border_right[0] == "solid"
        assert title.size == size, "as much room for the text as before"
        chooser = app.screen.query(Select).first()
        assert not chooser.styles.text_style.reverse
        chooser.focus()
        await wait_until(pilot, lambda: chooser.styles.text_style.reverse)


async def test_what_is_said_of_a_theme_has_no_colour_that_the_cursor_has_too(
    tmp_path: Path,
) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        app.action_themes()
        await wait_until(pilot, lambda: isinstance(app.screen, ThemesScreen))
        await wait_until(pilot, lambda: bool(app.screen.query("#list")))
        listed = app.screen.query_one("#list", OptionList)
        await wait_until(pilot, lambda: listed.option_count > 5)
        for option in listed.options:
            assert isinstance(option.prompt, Content)
            assert {str(span.style) for span in option.prompt.spans} == {"dim"}


def test_styles_of_a_screen_do_not_reach_others() -> None:
    found = 0
    for path in sorted(Path(str(screens.__file__)).parent.glob("*.tcss")):
        if path.name in FOR_ALL | NAMES_OF_ITS_OWN:
            continue
        for line in path.read_text("utf-8").splitlines():
            if re.match(r"[^\s}/]", line):
                found += 1
                for selector in line.rstrip(" {").split(", "):
                    assert re.match(r"[A-Z]\w+", selector), f"{path.name}: {line}"
    assert found > 20
