"""Theme files: what they may hold; the picker: moving shows, Enter keeps, Escape goes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from app_support import make_app, ready, wait_until
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.pilot import Pilot
from textual.widgets import DataTable, OptionList, Select

from quantchat.tui.app import QuantchatApp
from quantchat.tui.looks import PLAIN, SIXTEEN, Looks
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.screens.themes import ThemesScreen
from quantchat.tui.theming import own_themes, theme_from, user_themes

MINE = 'primary = "#102030"\nbackground = "#000000"\nforeground = "#ffffff"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUANTCHAT_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "config" / "themes"
    folder.mkdir(parents=True)
    return folder


async def opened(pilot: Pilot[None], app: QuantchatApp) -> OptionList:
    await ready(pilot, app)
    app.action_themes()
    await wait_until(pilot, lambda: isinstance(app.screen, ThemesScreen))
    await wait_until(pilot, lambda: app.screen.query("#list"))
    listed = app.screen.query_one("#list", OptionList)
    await wait_until(pilot, lambda: listed.has_focus and listed.option_count)
    return listed


def words(listed: OptionList) -> str:
    return "\n".join(str(option.prompt) for option in listed.options)


def test_our_themes_are_whole() -> None:
    themes = {theme.name: theme for theme in own_themes()}
    assert set(themes) == {"ink", "paper", "phosphor", "sixteen", "plain"}
    for theme in themes.values():
        variables = theme.to_color_system().generate() | theme.variables
        palette = palette_from(variables)
        background, foreground = palette.base.background, palette.base.foreground
        assert background is not None and foreground is not None
        assert background != foreground or theme.name == PLAIN
        if theme.ansi:
            continue
        for style in (palette.strong, palette.primary, palette.accent, palette.error):
            assert style.foreground is not None
            assert _contrast(style.foreground, background) > 4.0, (theme.name, style)
        assert palette.muted.foreground is not None
        assert _contrast(palette.muted.foreground, background) > 3.0, theme.name


def test_sixteen_uses_no_colour_that_sixteen_colours_lack() -> None:
    sixteen = next(theme for theme in own_themes() if theme.name == SIXTEEN)
    palette = palette_from(sixteen.to_color_system().generate() | sixteen.variables)
    ink = [palette.base, palette.muted, palette.strong, palette.primary, palette.accent]
    ink += [palette.success, palette.warning, palette.error, palette.faint, palette.marker]
    for style in ink:
        assert style.foreground is not None and style.foreground.ansi is not None, style
        assert style.foreground.ansi != 0, "never black on the black ground"


def _contrast(one: Color, other: Color) -> float:
    light, dark = sorted((one.brightness, other.brightness), reverse=True)
    return (_linear(light) + 0.05) / (_linear(dark) + 0.05)


def _linear(value: float) -> float:
    return float(value**2.2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *(("primary = 3", "primary"), ('primary = "blah"', "not a colour")),
        *(('dark = "yes"\nprimary = "red"', "dark"), ('x = 1\nprimary = "red"', "x: not known")),
        *(('name = "a b"\nprimary = "red"', "name"), ("", "primary: missing")),
        *(('primary = "red"\nansi = 3', "ansi"), ("primary = = 3", "")),
        ('primary = "red"\nvariables = 3', "variables"),
        ('primary = "red"\n[variables]\nborder = "banana"', "variables.border"),
        ('primary = "red"\n[variables]\nborder = "red; } * {"', "variables.border"),
        ('primary = "red"\n[variables]\nblock-cursor-text-style = "blink 3"', "text-style"),
        ('primary = "red"\n[variables]\n"a b" = "red"', "not a name"),
    ],
)
def test_what_a_theme_file_may_not_hold_is_said(folder: Path, text: str, said: str) -> None:
    (folder / "bad.toml").write_text(text)
    (folder / "good.toml").write_text(MINE)
    loaded, broken = user_themes(folder)
    assert [theme.name for theme in loaded] == ["good"]
    assert [each.path.name for each in broken] == ["bad.toml"] and said in broken[0].reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_no_theme_and_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.toml")
    (folder / "loop.toml").symlink_to("loop.toml")
    loaded, broken = user_themes(folder)
    assert not loaded and {each.path.name for each in broken} == {"loop.toml", "pipe.toml"}


async def test_our_theme_is_back_where_the_users_of_its_name_is_gone(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "paper.toml").write_text(MINE)
    app = make_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        listed = await opened(pilot, app)
        assert [line.split()[-2:] for line in words(listed).splitlines() if "paper" in line] == [
            ["paper", "yours"]
        ]
        assert app.available_themes["paper"].primary == "#102030"
        (folder / "paper.toml").unlink()
        app.looks.read()
        assert app.available_themes["paper"].primary != "#102030"


def test_styles_and_shares_of_colours_are_allowed() -> None:
    variables = {"block-cursor-text-style": "bold reverse", "border": "red 40%"}
    assert theme_from({"primary": "red", "variables": variables}, name="x").variables == variables


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_moving_shows_a_theme_enter_keeps_it_escape_goes_back(
    tmp_path: Path, folder: Path, size: tuple[int, int]
) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=size) as pilot:
        listed = await opened(pilot, app)
        assert app.screen.query_one("#box").region.bottom <= size[1]
        await pilot.press("down")
        await wait_until(pilot, lambda: app.theme == "paper")
        assert app.preferences.settings.theme == "ink"
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.theme == "ink")
        await wait_until(pilot, lambda: not isinstance(app.screen, ThemesScreen))
        listed = await opened(pilot, app)
        await pilot.press("down", "down", "enter")
        await wait_until(pilot, lambda: not isinstance(app.screen, ThemesScreen))
        assert app.theme == "phosphor" == app.preferences.settings.theme
        listed = await opened(pilot, app)
        await wait_until(pilot, lambda: listed.highlighted == 2)
        assert "● phosphor" in words(listed)
        await pilot.click(OptionList, offset=(4, 0))
        await wait_until(pilot, lambda: app.preferences.settings.theme == "ink")


async def test_theme_files_are_read_again_and_errors_are_explained(
    tmp_path: Path, folder: Path
) -> None:
    (folder / "mine.toml").write_text(MINE)
    app = make_app(tmp_path, theme="mine")
    async with app.run_test(size=(120, 40)) as pilot:
        listed = await opened(pilot, app)
        assert app.theme == "mine" and "mine" in words(listed) and "yours" in words(listed)
        (folder / "mine.toml").write_text(MINE.replace("#000000", "#300000"))
        (folder / "bad.toml").write_text('primary = "blah"\n')
        await pilot.press("r")
        await wait_until(
            pilot, lambda: "✗ bad.toml: primary: 'blah' is not a colour" in words(listed)
        )
        await wait_until(pilot, lambda: Color.parse(app.theme_variables["background"]).r > 40)
        assert any("bad.toml is left out" in each.message for each in app._notifications)
        (folder / "mine.toml").unlink()
        (folder / "bad.toml").unlink()
        await pilot.press("r")
        await wait_until(pilot, lambda: "bad.toml" not in words(listed))
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, ThemesScreen))


async def test_every_theme_can_be_put_on(tmp_path: Path, folder: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        for name in [*app.looks.names()[:5], "ansi-light", "dracula"]:
            app.looks.preview(name)
            await wait_until(pilot, lambda name=name: app.current_theme.name == name)
            assert palette_from(app.theme_variables).base.foreground is not None


async def test_sixteen_colours_take_the_theme_made_for_them(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Looks, "few_colours", True)
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        assert app.theme == SIXTEEN and app.preferences.settings.theme == "ink"
        app.set_value("theme", "paper")
        assert app.theme == "paper", "another choice stays"


async def test_no_colour_at_all_where_none_is_wanted(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        assert app.theme == PLAIN and app.preferences.settings.theme == "ink"
        await pilot.press("f5")
        await wait_until(pilot, lambda: app.screen.query("#table"))
        table = app.screen.query_one("#table", DataTable)
        await wait_until(pilot, lambda: table.row_count == 7)
        styles = [
            segment.style
            for strip in app.screen._compositor.render_strips()
            for segment in strip
            if segment.style is not None
        ]
        shown = [style for each in styles if (style := _filtered(app, each))]
        assert all(each is None or each.is_default for style in shown for each in _colours(style))
        assert any(style.reverse for style in shown), "the chosen row"


def _colours(style: Style) -> tuple[RichColor | None, RichColor | None]:
    return (style.color, style.bgcolor)


def _filtered(app: QuantchatApp, style: Style) -> Style | None:
    """A style as it leaves for the terminal."""
    segments = [Segment("x", style)]
    for each in app.get_line_filters():
        segments = each.apply(segments, Color(0, 0, 0))
    return segments[0].style


async def test_a_theme_that_is_gone_is_said(tmp_path: Path, folder: Path) -> None:
    app = make_app(tmp_path, theme="gone")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        assert app.theme == "ink"
        assert any("no theme 'gone'" in each.message for each in app._notifications)


async def test_the_settings_list_the_themes(tmp_path: Path, folder: Path) -> None:
    (folder / "mine.toml").write_text(MINE)
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: app.screen.query("#set-theme"))
        app.screen.query_one("#set-theme", Select).value = "mine"
        await wait_until(pilot, lambda: app.theme == "mine")
