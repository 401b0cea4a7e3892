"""Options of a conversation: what is written there holds from the next answer on, there alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_support import answered, ask, fake, make_app, ready, wait_until
from textual.pilot import Pilot
from textual.widgets import Button, Input, Select, TextArea

from quantchat.errors import SettingsError
from quantchat.requests import Message
from quantchat.settings.presets import BUILT_IN, load_presets
from quantchat.tui.app import QuantchatApp
from quantchat.tui.screens.dialog import Ask
from quantchat.tui.screens.export import ExportDialog
from quantchat.tui.screens.options import APPS, OWN, OptionsScreen


async def opened(pilot: Pilot[None], app: QuantchatApp) -> OptionsScreen:
    """The screen, once its choices are there."""
    await pilot.press("f8")
    await wait_until(pilot, lambda: isinstance(app.screen, OptionsScreen))
    screen = app.screen
    assert isinstance(screen, OptionsScreen)
    await wait_until(pilot, lambda: screen.is_mounted and not screen._filling)
    return screen


async def closed(pilot: Pilot[None], app: QuantchatApp) -> None:
    await pilot.press("escape")
    await wait_until(pilot, lambda: not isinstance(app.screen, OptionsScreen))


async def test_every_field_has_its_name_in_a_narrow_window(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(40, 24)) as pilot:
        screen = await opened(pilot, app)
        rows = screen.query_one("#rows")
        await wait_until(pilot, lambda: rows.region.width > 0)
        for name in screen.query(".name"):
            assert name.region.width >= 20
        for button in screen.query(Button):
            assert rows.region.x <= button.region.x and button.region.right <= rows.region.right


async def test_own_options_hold_from_the_next_answer_on(tmp_path: Path) -> None:
    app = make_app(tmp_path, system_prompt="From the settings.", temperature=0.9, max_tokens=50)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "one")
        await answered(pilot, app, 2)
        first = fake(app).chats[-1]
        assert first.messages[0] == Message("system", "From the settings.")
        assert (first.sampling.temperature, first.max_tokens) == (0.9, 50)

        screen = await opened(pilot, app)
        assert screen.query_one("#opt-prompt", TextArea).text == "From the settings."
        screen.query_one("#opt-title", Input).value = "Mine"
        screen.query_one("#opt-tags", Input).value = "work, #home work"
        screen.query_one("#opt-prompt", TextArea).text = "Be brief.\nVery."
        screen.query_one("#opt-temperature", Input).value = "0.1"
        screen.query_one("#opt-seed", Input).value = "7"
        await closed(pilot, app)
        assert app.conversation.chat is not None
        stored = app.chats.get(app.conversation.chat.id)
        assert (stored.title, stored.tags) == ("Mine", ("work", "home"))
        assert stored.sampling == {"temperature": 0.1, "seed": 7}
        screen = await opened(pilot, app)
        screen.query_one("#opt-title", Input).value = ""
        await closed(pilot, app)
        assert app.conversation.title == "one" == app.chats.get(stored.id).title
        await ask(pilot, app, "two")
        await answered(pilot, app, 4)
        second = fake(app).chats[-1]
        assert second.messages[0] == Message("system", "Be brief.\nVery.")
        assert (second.sampling.temperature, second.sampling.seed) == (0.1, 7)
        assert second.max_tokens == 50, "what is not its own is the app's"

        await pilot.press("ctrl+n")
        await ask(pilot, app, "three")
        await answered(pilot, app, 2)
        third = fake(app).chats[-1]
        assert third.messages[0] == Message("system", "From the settings.")
        assert third.sampling.temperature == 0.9

        app.set_value("system_prompt", "Another.")
        await pilot.press("ctrl+r")
        await answered(pilot, app, 2)
        again = fake(app).chats[-1]
        assert again.messages[0] == Message("system", "From the settings."), "new ones only"


async def test_a_conversation_that_has_not_begun_has_options_too(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        screen = await opened(pilot, app)
        screen.query_one("#opt-prompt", TextArea).text = "Draft."
        screen.query_one("#opt-tags", Input).value = "later"
        await closed(pilot, app)
        assert app.chats.list() == (), "nothing is stored before the first message"
        await ask(pilot, app, "one")
        await answered(pilot, app, 2)
        (chat,) = app.chats.list()
        assert (chat.system_prompt, chat.tags, chat.title) == ("Draft.", ("later",), "one")
        await pilot.press("ctrl+n")
        assert app.conversation.options.system_prompt == ""


async def test_presets_are_chosen_saved_and_forgotten(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    path = tmp_path / "presets.toml"
    async with app.run_test(size=(120, 50)) as pilot:
        await ready(pilot, app)
        screen = await opened(pilot, app)
        select = screen.query_one("#presets", Select)
        assert select.value == APPS
        select.value = "precise"
        temperature = screen.query_one("#opt-temperature", Input)
        await wait_until(pilot, lambda: temperature.value == "0.2")
        await wait_until(pilot, lambda: app.conversation.options.sampling == BUILT_IN["precise"])
        temperature.focus()
        temperature.value = "0.3"
        await pilot.press("enter")
        await wait_until(pilot, lambda: select.value == OWN)
        await pilot.click("#save-preset")
        await wait_until(pilot, lambda: isinstance(app.screen, Ask))
        app.screen.query_one("#answer", Input).value = "mine"
        await pilot.press("enter")
        await wait_until(pilot, lambda: select.value == "mine" and not screen._filling)
        assert load_presets(path)[0].sampling["mine"]["temperature"] == 0.3
        select.value = APPS
        await wait_until(pilot, lambda: temperature.value == "")
        assert app.conversation.options.sampling is None
        select.value = "mine"
        await wait_until(pilot, lambda: temperature.value == "0.3")
        await pilot.click("#drop-preset")
        await wait_until(pilot, lambda: "mine" not in load_presets(path)[0].sampling)
        await wait_until(pilot, lambda: select.value == OWN), "its values stay"
        assert temperature.value == "0.3"


async def test_system_prompts_are_kept_in_a_library(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    path = tmp_path / "presets.toml"
    async with app.run_test(size=(120, 50)) as pilot:
        await ready(pilot, app)
        screen = await opened(pilot, app)
        area = screen.query_one("#opt-prompt", TextArea)
        await pilot.click("#save-prompt")
        assert app.screen is screen, "there is nothing to save"
        area.text = "Ask back."
        save = screen.query_one("#save-prompt")
        await wait_until(pilot, lambda: not save.has_class("-active"))
        await pilot.click("#save-prompt")
        await wait_until(pilot, lambda: isinstance(app.screen, Ask))
        app.screen.query_one("#answer", Input).value = "Tutor"
        await pilot.press("enter")
        select = screen.query_one("#prompts", Select)
        await wait_until(pilot, lambda: select.value == "Tutor" and not screen._filling)
        area.text = "Something else."
        await closed(pilot, app)
        screen = await opened(pilot, app)
        screen.query_one("#prompts", Select).value = "Tutor"
        await wait_until(pilot, lambda: app.conversation.options.system_prompt == "Ask back.")
        area = screen.query_one("#opt-prompt", TextArea)
        area.undo()
        assert area.text == "Something else.", "what was there comes back"
        await pilot.click("#drop-prompt")
        await wait_until(pilot, lambda: load_presets(path)[0].prompts == {})


async def test_values_that_are_off_are_said_and_set_right(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        screen = await opened(pilot, app)
        field = screen.query_one("#opt-top_p", Input)
        field.value = "7"
        await pilot.press("escape")
        await wait_until(pilot, lambda: field.value == "")
        assert app.screen is screen
        assert any("top_p" in each.message for each in app._notifications)
        assert app.conversation.options.sampling is None
        field.value = "0.5"
        await closed(pilot, app)
        assert app.conversation.options.sampling == {"top_p": 0.5}


async def test_the_open_conversation_is_exported_from_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = make_app(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        screen = await opened(pilot, app)
        await pilot.press("f7")
        assert app.screen is screen, "there is nothing yet"
        await pilot.press("f8")
        await wait_until(pilot, lambda: app.screen is not screen)
        await ask(pilot, app, "Why?")
        await answered(pilot, app, 2)
        await opened(pilot, app)
        await pilot.press("f7")
        await wait_until(pilot, lambda: isinstance(app.screen, ExportDialog))
        await wait_until(pilot, lambda: app.screen.query_one("#path").has_focus)
        await pilot.press("enter")
        await wait_until(pilot, lambda: (tmp_path / "why.md").exists())


async def test_options_are_changed_by_name(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        app.options.use_preset("creative")
        assert app.conversation.options.sampling == BUILT_IN["creative"]
        app.options.use_preset("")
        assert app.conversation.options.sampling is None
        with pytest.raises(SettingsError, match="no preset 'none'"):
            app.options.use_preset("none")
        with pytest.raises(SettingsError, match="no system prompt"):
            app.options.use_prompt("none")
        (tmp_path / "presets.toml").write_text("[prompts]\nTutor = 'Ask back.'\n")
        app.options.use_prompt("Tutor")
        app.options.change(tags=("a", "A", "b"), title="T")
        await ask(pilot, app, "one")
        await answered(pilot, app, 2)
        (chat,) = app.chats.list()
        assert (chat.system_prompt, chat.tags, chat.title) == ("Ask back.", ("a", "b"), "T")
