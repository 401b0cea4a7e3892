"""The settings screen: search, marks of what was changed, resets; and that it fits small windows."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_support import fake, make_app, ready, wait_until
from fakes import FakeEngine
from textual.pilot import Pilot
from textual.widgets import Input, Select, Static, Switch, TextArea

from quantchat.settings.file import load_settings
from quantchat.settings.schema import SETTINGS
from quantchat.tui.app import QuantchatApp
from quantchat.tui.screens.dialog import Dialog
from quantchat.tui.screens.settings import SettingsScreen
from quantchat.tui.widgets.setting_row import SettingName, SettingRow


async def opened(pilot: Pilot[None], app: QuantchatApp, key: str = "ctrl+s") -> SettingsScreen:
    await ready(pilot, app)
    await pilot.press(key)
    await wait_until(pilot, lambda: bool(app.screen.query("#set-compare_right_kv")))
    screen = app.screen
    assert isinstance(screen, SettingsScreen)
    await wait_until(pilot, lambda: screen.query_one("#filter").has_focus)
    return screen


def found(screen: SettingsScreen) -> list[str]:
    return [row.spec.key for row in screen.query(SettingRow) if row.display]


def head(screen: SettingsScreen, key: str) -> str:
    return screen.query_one(f"#row-{key}").query_one(SettingName).render().plain.strip(" ▸")


@pytest.mark.parametrize("size", [(40, 24), (80, 24), (200, 50)])
async def test_every_setting_can_be_seen_and_is_explained(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=size) as pilot:
        screen = await opened(pilot, app, "f2")
        assert found(screen) == [spec.key for spec in SETTINGS]
        rows = screen.query_one("#rows")
        await wait_until(pilot, lambda: rows.region.height >= 14)
        for row in screen.query(SettingRow):
            assert row.control.region.width >= 20
            assert row.query_one(".help").region.width >= min(30, size[0] - 10)
            assert row.control.region.right <= rows.region.right
            assert str(row.query_one(".help", Static).content)


async def test_typing_finds_by_name_explanation_and_value(tmp_path: Path) -> None:
    app = make_app(tmp_path, kv="k8v4", temperature=0.25)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, app)
        for text, keys in (
            ("min-p", ["min_p"]),
            ("cumul", []),
            ("0.25", ["temperature"]),
            ("changed", ["kv", "temperature", "animations"]),
            ("side blind", ["compare_mode"]),
        ):
            screen.query_one("#filter", Input).value = text
            await wait_until(pilot, lambda keys=keys: found(screen) == keys)
            assert screen.query_one("#nothing").display == (not keys)
        screen.query_one("#filter", Input).value = ""
        await pilot.press(*"keys and values")
        await wait_until(pilot, lambda: found(screen) == ["kv"])
        await pilot.press("enter")
        await wait_until(pilot, lambda: screen.query_one("#set-kv").has_focus)
        await pilot.press("ctrl+f")
        await wait_until(pilot, lambda: screen.query_one("#filter").has_focus)


async def test_what_differs_from_its_default_is_marked_and_can_be_reset(tmp_path: Path) -> None:
    app = make_app(tmp_path, top_k=40, enter_sends=False, system_prompt="Be brief.")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, app)
        assert head(screen, "top_k") == "● Top-k  reset to 0"
        assert head(screen, "enter_sends") == "● Enter sends: off  reset to on"
        assert head(screen, "system_prompt") == "● System prompt  reset to empty"
        assert head(screen, "top_p") == "Top-p"
        screen.query_one("#set-top_k").focus()
        await wait_until(pilot, lambda: screen.query_one("#set-top_k").has_focus)
        name = screen.query_one("#row-top_k").query_one(SettingName)
        await wait_until(pilot, lambda: name.render().plain.startswith("▸"))
        await pilot.press("f8")
        await wait_until(pilot, lambda: app.preferences.settings.top_k == 0)
        await wait_until(pilot, lambda: head(screen, "top_k") == "Top-k")
        assert screen.query_one("#set-top_k", Input).value == "0"
        screen.query_one("#row-system_prompt").scroll_visible(animate=False)
        name = screen.query_one("#row-system_prompt").query_one(SettingName)
        await wait_until(pilot, lambda: screen.query_one("#rows").region.overlaps(name.region))
        at = name.render().plain.index("reset") + 1
        await pilot.click(name, offset=(at, 0))
        await wait_until(pilot, lambda: app.preferences.settings.system_prompt == "")
        assert screen.query_one("#set-system_prompt", TextArea).text == ""


async def test_all_settings_are_reset_after_asking(tmp_path: Path) -> None:
    app = make_app(tmp_path, top_k=40, show_meters=False, kv="int8", theme="paper")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, app)
        await pilot.press("f9")
        await wait_until(pilot, lambda: bool(app.screen.query("#message")))
        assert isinstance(app.screen, Dialog)
        listed = str(app.screen.query_one("#message", Static).content)
        assert "Top-k → 0" in listed and "KV cache → auto" in listed and "Theme → ink" in listed
        await pilot.press("c")
        await wait_until(pilot, lambda: app.screen is screen)
        assert app.preferences.settings.top_k == 40
        await pilot.press("f9")
        await wait_until(pilot, lambda: bool(app.screen.query("#message")))
        await pilot.press("r")
        await wait_until(pilot, lambda: app.screen is screen)
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.kv == "16bit")
        assert app.preferences.settings == type(app.preferences.settings)()
        await wait_until(pilot, lambda: screen.query_one("#set-theme", Select).value == "ink")
        assert screen.query_one("#set-show_meters", Switch).value is True and app.theme == "ink"
        saved, warnings = load_settings(tmp_path / "settings.toml")
        assert saved == app.preferences.settings and not warnings
        await pilot.press("f9")
        await wait_until(
            pilot, lambda: any("Nothing differs" in n.message for n in app._notifications)
        )


async def test_a_failed_load_takes_its_row_back(tmp_path: Path) -> None:
    engine = FakeEngine(hold_loads=False)
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, app)
        engine.load_failures["auto"] = ("no room for that cache", "")
        screen.query_one("#set-kv", Select).value = "int4"
        await wait_until(pilot, lambda: isinstance(app.screen, Dialog))
        assert fake(app).loads[-1].kv == "int4"
        await pilot.press("escape")
        await wait_until(pilot, lambda: screen.query_one("#set-kv", Select).value == "auto")
        assert app.preferences.settings.kv == "auto"


async def test_a_value_that_is_taken_back_leaves_its_field(tmp_path: Path) -> None:
    app = make_app(tmp_path, scheme="fp16")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, app)
        engine = fake(app)
        engine.load_failures["fp16"] = ("the model was made for 8192", "ask for less")
        field = screen.query_one("#set-context_tokens", Input)
        field.focus()
        await wait_until(pilot, lambda: field.has_focus)
        field.value = "9000000"
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, Dialog))
        assert len(engine.loads) == 2 and engine.loads[-1].context_tokens == 9_000_000
        await pilot.press("c")
        await wait_until(pilot, lambda: field.value == "0")
        field.value = "12"
        screen._show()
        assert field.value == "12", "what is being typed stays"
        field.value = "0"
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.chat_screen)
        assert app.preferences.settings.context_tokens == 0 and len(engine.loads) == 2
