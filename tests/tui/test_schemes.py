"""The chooser of schemes: figures, refusals, keys, and what loading in another scheme shows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from app_support import FakeSchemes, fake, make_app, ready, wait_until
from fakes import FakeEngine
from machines import ZEN5, machine
from textual.pilot import Pilot
from textual.widgets import Button, DataTable, Static

from quantchat.errors import QuantchatError
from quantchat.requests import LoadRequest
from quantchat.tui.app import QuantchatApp
from quantchat.tui.control.schemes import Held
from quantchat.tui.screens.models import ModelsScreen
from quantchat.tui.screens.schemes import SchemesScreen
from quantchat.tui.widgets.bars import Activity, TopBar
from quantchat.tui.widgets.dial import Dial
from quantchat.tui.widgets.picker_list import PickerList


async def opened(pilot: Pilot[None], app: QuantchatApp) -> DataTable[object]:
    """The table, once it is filled."""
    await ready(pilot, app)
    await pilot.press("f5")
    await wait_until(pilot, lambda: isinstance(app.screen, SchemesScreen))
    table = app.screen.query_one(DataTable)
    await wait_until(pilot, lambda: table.row_count == 7)
    return table


def about(app: QuantchatApp) -> str:
    return str(app.screen.query_one("#about", Static).render())


def cells(table: DataTable[object], row: int) -> list[str]:
    return [str(cell).strip() for cell in table.get_row_at(row)]


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_every_scheme_has_its_figures(tmp_path: Path, size: tuple[int, int]) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=size) as pilot:
        table = await opened(pilot, app)
        assert table.virtual_size.width <= table.size.width and table.size.height >= 10
        assert cells(table, 0)[1] == "auto"
        assert cells(table, 2)[1:] == [
            *("int8", "129 MiB", "180 MiB", "~77.5", "0.0012", "97.1 %", "")
        ]
        assert cells(table, 4)[-1] == "calibrate" and cells(table, 5)[-1] == "ready"
        assert cells(table, 6)[1:] == ["fp8", *"–––––", "refused"]
        await wait_until(pilot, lambda: "Here: int8" in about(app))
        for _ in range(2):
            await pilot.press("down")
        await wait_until(pilot, lambda: "6,141 tokens of wiki" in about(app))
        assert "~77.5 tok/s at 1,024" in about(app)
        await pilot.press("down")
        await wait_until(pilot, lambda: "quantchat eval -m starter -s int4" in about(app))
        await pilot.press("down")
        await wait_until(pilot, lambda: "calibrates first" in about(app))
        await pilot.press("down")
        await wait_until(pilot, lambda: "starts at once" in about(app))
        assert "held in 16 bits here" in about(app)
        assert len(about(app).splitlines()) <= 6
        box = app.screen.query_one("#box")
        keys = app.screen.query_one("#keys")
        assert keys.region.bottom <= box.region.bottom and box.region.bottom <= size[1]


async def test_enter_loads_and_esc_changes_nothing(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        await pilot.press("down", "down", "escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, SchemesScreen))
        assert app.preferences.settings.scheme == "auto" and len(fake(app).loads) == 1
        table = await opened(pilot, app)
        await pilot.press("end")
        await wait_until(pilot, lambda: table.cursor_row == 6)
        await pilot.press("home")
        await wait_until(pilot, lambda: table.cursor_row == 0)
        await pilot.press("f5")
        await wait_until(pilot, lambda: not isinstance(app.screen, SchemesScreen))
        await opened(pilot, app)
        await pilot.press("down", "down", "down", "enter")
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.scheme == "int4")
        assert app.preferences.settings.scheme == "int4"
        table = await opened(pilot, app)
        await wait_until(pilot, lambda: table.cursor_row == 3)
        assert cells(table, 3)[0] == "●"
        await pilot.press("enter")
        await wait_until(pilot, lambda: not isinstance(app.screen, SchemesScreen))
        assert len(fake(app).loads) == 2


async def test_a_refused_scheme_says_why_and_is_not_loaded(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        table = await opened(pilot, app)
        table.move_cursor(row=6)
        await wait_until(pilot, lambda: "fp8 needs SM 80" in about(app))
        assert "choose int8" in about(app)
        await pilot.press("enter")
        await wait_until(pilot, lambda: any("SM 80" in each.message for each in app._notifications))
        assert isinstance(app.screen, SchemesScreen) and len(fake(app).loads) == 1


async def test_another_kv_precision_is_planned_and_taken_along(tmp_path: Path) -> None:
    schemes = FakeSchemes()
    app = make_app(tmp_path, schemes=schemes)
    async with app.run_test(size=(80, 24)) as pilot:
        table = await opened(pilot, app)
        for kv in ("16bit", "fp8"):
            await pilot.press("k")
            await wait_until(pilot, lambda: schemes.asked[-1].kv == kv)  # noqa: B023
        await wait_until(pilot, lambda: cells(table, 1)[3] == "95.0 MiB")
        assert [request.kv for request in schemes.asked] == ["auto", "16bit", "fp8"]
        assert app.preferences.settings.kv == "auto"
        assert "KV fp8" in str(app.screen.query_one("#title", Static).render())
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.scheme == "fp16")
        assert app.preferences.settings.kv == "fp8" == fake(app).loads[-1].kv


async def test_planning_that_takes_time_or_fails_is_said(tmp_path: Path) -> None:
    schemes = FakeSchemes()
    schemes.hold.clear()
    app = make_app(tmp_path, schemes=schemes)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await pilot.press("f5")
        await wait_until(pilot, lambda: bool(app.screen.query("#about")))
        activity = app.screen.query_one("#activity", Activity)
        await wait_until(pilot, lambda: activity.display)
        schemes.error = QuantchatError("the file is gone", hint="fetch it again")
        schemes.hold.set()
        await wait_until(pilot, lambda: "the file is gone" in about(app))
        assert "fetch it again" in about(app)
        await pilot.press("enter", "escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, SchemesScreen))


async def test_calibration_shows_how_far_it_is_and_esc_stops_it(tmp_path: Path) -> None:
    engine = FakeEngine(hold_phase="calibrate")
    app = make_app(tmp_path, engine)
    async with app.run_test(size=(80, 24)) as pilot:
        table = await opened(pilot, app)
        table.move_cursor(row=4)
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.status.activity()[0].startswith("calibrating"))
        assert app.status.activity()[1] is not None
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.loads.state == "ready")
        assert app.preferences.settings.scheme == "auto" and app.loads.info is not None
        assert app.loads.info.scheme == "int8"


async def test_another_calibration_text_counts_for_calibrated_schemes(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        app.set_value("calibration_file", "/a/text")
        assert not app.loads.busy and len(fake(app).loads) == 1
        app.switching.take("awq", "auto")
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.scheme == "awq")
        assert fake(app).loads[-1].calibration_file == "/a/text"
        app.set_value("calibration_file", "")
        await wait_until(pilot, lambda: len(fake(app).loads) == 3)
        assert fake(app).loads[-1].calibration_file == ""


async def test_the_settings_lead_to_the_chooser(tmp_path: Path) -> None:
    app = make_app(tmp_path, scheme="bf16")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        assert app.preferences.settings.scheme == "fp16"
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: bool(app.screen.query("#set-scheme")))
        button = app.screen.query_one("#set-scheme", Button)
        assert str(button.label).startswith("fp16")
        await pilot.press("s", "c", "h", "e", "m", "e", "enter")
        await wait_until(pilot, lambda: button.has_focus)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, SchemesScreen))


def test_rows_come_from_the_plan_the_cache_and_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app_support import quality
    from factory import write_gguf

    from quantchat import paths
    from quantchat.model.families import open_model
    from quantchat.model.packed_name import packed_file, packed_stem
    from quantchat.quant.registry import SCHEMES
    from quantchat.store.quality import remember
    from quantchat.tui.control.plan_schemes import PlanSchemes

    monkeypatch.setenv("QUANTCHAT_HOME", str(tmp_path / "home"))
    facts = machine(isa=ZEN5)
    monkeypatch.setattr("quantchat.hardware.probe.probe", lambda: facts)
    path = write_gguf(tmp_path / "tiny.gguf", "llama", tensor_type="Q4_1", tokenizer=False)
    source = open_model(path)
    identity = source.checkpoint.identity()
    source.close()
    measured = [quality("int8"), dataclasses.replace(quality("awq"), calibration="another text's")]
    remember(dataclasses.replace(row, identity=identity) for row in measured)
    name = packed_file(packed_stem(identity, "int8", 0), "stored-bfloat16")
    (paths.packed_dir() / name).touch()
    older = packed_file(packed_stem(identity, "w8a8", 0), "stored-bfloat16")
    (paths.packed_dir() / older.replace("-v", "-v0")).touch()
    book = PlanSchemes()
    request = LoadRequest(model=str(path), kv="int8")
    before = {row.name: row for row in book.rows(request, None, may_measure=False)}
    assert list(before) == ["auto", *SCHEMES]
    assert before["auto"].takes == "stored" and before["auto"].tok_per_s is None
    packed = {name for name, row in before.items() if row.packed}
    assert packed == {"int8"}
    assert before["int8"].quality is not None and before["int8"].quality.kv == "16bit"
    assert before["int8"].kv == "int8" and before["fp16"].quality is None
    assert before["awq"].quality is None
    assert before["awq"].calibrates and not before["awq"].held
    assert before["squeezellm"].held == "held in 16 bits"
    missing = LoadRequest(model=str(path), calibration_file=str(tmp_path / "none.txt"))
    for row in book.rows(missing, None, may_measure=False)[1:]:
        unread = "none.txt cannot be read" in row.refusal
        fits = before[row.name].allowed
        assert unread == (fits and SCHEMES[row.name].calibration != "none"), row
    after = book.rows(request, None, may_measure=True)
    assert all(row.tok_per_s for row in after if row.allowed)
    small = machine(isa=ZEN5, ram_gib=0.2)
    monkeypatch.setattr("quantchat.hardware.probe.probe", lambda: small)
    refused = book.rows(request, None, may_measure=False)
    assert all(not row.allowed and row.hint for row in refused)
    held = Held(device="cpu", device_name="Test CPU", size_bytes=8 << 30)
    monkeypatch.setattr(
        "quantchat.hardware.probe.probe",
        lambda: dataclasses.replace(
            facts, cpu=dataclasses.replace(facts.cpu, ram_free_bytes=1 << 26)
        ),
    )
    assert any(row.allowed for row in book.rows(request, held, may_measure=False))


async def test_the_models_line_of_keys_works_by_mouse(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await wait_until(
            pilot, lambda: "kv 16bit" in app.chat_screen.query_one(TopBar).render().plain
        )
        await pilot.click(TopBar, offset=(18, 0))
        await wait_until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await wait_until(pilot, lambda: app.screen.query_one(PickerList).count == 2)
        await pilot.press("down")
        await pilot.click("#keys", offset=(3, 0))
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.model == "other")
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.chat_screen)
        at = app.chat_screen.query_one(TopBar).render().plain.index("int8")
        await pilot.click(TopBar, offset=(at + 1, 0))
        await wait_until(pilot, lambda: app.chat_screen.query_one(Dial).display)
