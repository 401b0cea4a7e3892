"""Settings, models, conversations and side by side, by their keys."""

from __future__ import annotations

from pathlib import Path

from app_support import FakeLibrary, answered, ask, drawn, fake, make_app, ready, wait_until
from textual.command import CommandPalette
from textual.events import Key
from textual.widgets import Input, Select, Switch, TextArea

from quantchat.settings.file import load_settings
from quantchat.tui.screens.dialog import Ask, Dialog
from quantchat.tui.screens.help import HelpScreen
from quantchat.tui.screens.models import ModelsScreen
from quantchat.tui.screens.schemes import SchemesScreen
from quantchat.tui.screens.settings import SettingsScreen
from quantchat.tui.widgets.picker_list import PickerList


async def test_keys_that_come_with_the_one_that_closes_a_screen_close_no_other(
    tmp_path: Path,
) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        for screen, key in (
            (SchemesScreen(), "enter"),
            (ModelsScreen(), "enter"),
            (Ask("A name", "this"), "enter"),
            (Dialog("One", "first"), "c"),
        ):
            app.push_screen(screen)
            await wait_until(pilot, lambda: app.screen is not app.chat_screen)
            await drawn(app)
            for _ in range(3):
                app.post_message(Key(key, key if len(key) == 1 else None))
            await wait_until(pilot, lambda: app.screen is app.chat_screen)
            await drawn(app)


async def test_a_covered_dialog_closes_itself_and_once(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        lower, upper, told = Dialog("Lower", "first"), Dialog("Upper", "second"), list[str]()
        app.push_screen(lower, lambda result: told.append(result or ""))
        await drawn(app)
        app.push_screen(upper)
        await drawn(app)
        lower.dismiss("kept")
        lower.dismiss("too late")
        await drawn(app)
        assert app.screen is upper and told == []
        upper.dismiss("")
        await wait_until(pilot, lambda: app.screen is app.chat_screen)
        await wait_until(pilot, lambda: bool(told))
        await drawn(app)
        assert told == ["kept"] and app.screen is app.chat_screen


async def test_opening_the_settings_changes_nothing(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        before = app.preferences.settings
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: bool(app.screen.query("#set-theme")))
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, SettingsScreen))
        assert app.preferences.settings == before
        assert len(fake(app).loads) == 1
        assert not (tmp_path / "settings.toml").exists()


async def test_settings_take_effect_and_are_saved(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: bool(app.screen.query("#set-theme")))
        screen = app.screen
        screen.query_one("#set-theme", Select).value = "paper"
        screen.query_one("#set-kv", Select).value = "int8"
        screen.query_one("#set-show_meters", Switch).value = False
        screen.query_one("#set-temperature", Input).value = "0.2"
        screen.query_one("#set-system_prompt", TextArea).text = "Be brief."
        field = screen.query_one("#set-temperature")
        field.focus()
        await wait_until(pilot, lambda: field.has_focus)
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.preferences.settings.temperature == 0.2)
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.kv == "int8")
        await pilot.press("escape")
        assert app.theme == "paper"
        saved, warnings = load_settings(tmp_path / "settings.toml")
        assert not warnings and saved == app.preferences.settings
        assert (saved.kv, saved.temperature, saved.show_meters) == ("int8", 0.2, False)
        await ask(pilot, app, "hi")
        await answered(pilot, app, 2)
        request = fake(app).chats[0]
        assert request.messages[0].content == "Be brief." and request.sampling.temperature == 0.2


async def test_a_wrong_value_is_refused_in_words(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: bool(app.screen.query("#set-top_p")))
        field = app.screen.query_one("#set-top_p", Input)
        field.focus()
        await wait_until(pilot, lambda: field.has_focus)
        field.value = "seven"
        await pilot.press("enter")
        await wait_until(pilot, lambda: field.value == "0.95")
        assert any("from 0 to 1" in each.message for each in app._notifications)


async def test_settings_are_filtered(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: bool(app.screen.query("#filter")))
        app.screen.query_one("#filter", Input).value = "theme"
        await wait_until(pilot, lambda: not app.screen.query_one("#row-scheme").display)
        assert app.screen.query_one("#row-theme").display


async def test_the_picker_fetches_loads_and_deletes(tmp_path: Path) -> None:
    library = FakeLibrary()
    app = make_app(tmp_path, library=library)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await pilot.press("ctrl+o")
        await wait_until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        table = app.screen.query_one(PickerList)
        await wait_until(pilot, lambda: table.count == 2)
        await pilot.press("o", "t", "h")
        await wait_until(pilot, lambda: table.count == 1)
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.model == "other")
        assert library.there["other"] and app.preferences.settings.model == "other"
        await wait_until(pilot, lambda: "◆ other" in table.text_on_screen())
        await pilot.press("f8")
        await wait_until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press("d")
        await wait_until(pilot, lambda: not library.there["other"])


async def test_a_name_nobody_knows_is_said(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await pilot.press("ctrl+o")
        await wait_until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await pilot.press("x", "y", "z", "enter")
        await wait_until(pilot, lambda: any("'xyz'" in each.message for each in app._notifications))
        assert app.preferences.settings.model == "starter" and app.loads.ready


async def test_every_action_is_in_the_palette(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        titles = {command.title for command in app.get_system_commands(app.screen)}
        wanted = {"New chat", "Answer again", "Models", "Settings", "Side by side", "Scheme: int4"}
        assert wanted | {"Theme: ink", "Theme: nord", "Quit"} <= titles
        await pilot.press("f1")
        await wait_until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("q")
        await wait_until(pilot, lambda: not isinstance(app.screen, HelpScreen))


async def test_the_palette_is_paged_before_it_is_laid_out(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        app.action_command_palette()
        await wait_until(pilot, lambda: isinstance(app.screen, CommandPalette))
        await wait_until(pilot, lambda: app.screen.query("CommandList"))
        app.screen.query_one("CommandList").styles.height = 0
        app.screen._action_command_list("page_down")
        await pilot.press("pagedown", "escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, CommandPalette))
        assert app.is_running


async def test_a_second_palette_above_the_help_of_the_first(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await pilot.press("ctrl+p")
        await wait_until(pilot, lambda: isinstance(app.screen, CommandPalette))
        await pilot.press("f1")
        await wait_until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("ctrl+p")
        await wait_until(pilot, lambda: isinstance(app.screen, CommandPalette))
        for left in (3, 2, 1):
            await pilot.press("escape")
            await wait_until(pilot, lambda left=left: len(app.screen_stack) == left)
        await pilot.press("ctrl+p", "escape", "ctrl+p")
        await wait_until(pilot, lambda: isinstance(app.screen, CommandPalette))


async def test_keys_that_come_with_the_one_that_opens_a_screen(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        for opening in ("f1", "ctrl+o", "f6", "ctrl+l"):
            for closing in (("down", "f3", "escape"), (opening, "escape")):
                for key in (opening, *closing):
                    app.post_message(Key(key, None))
                await pilot.pause()
                for _ in range(9):
                    if len(app.screen_stack) > 1:
                        await pilot.press("escape")
                await wait_until(pilot, lambda: len(app.screen_stack) == 1)
