"""Meters: what they show, what they refuse to show, and how they explain themselves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from app_support import answered, ask, make_app, ready, shown, wait_until
from fake_facts import memory_use, metrics_of, model_info
from fakes import FakeEngine, Script
from textual.geometry import Offset
from textual.pilot import Pilot

from quantchat.events import MemoryUse
from quantchat.hardware import bandwidth
from quantchat.requests import LoadRequest
from quantchat.tui import figures
from quantchat.tui.app import QuantchatApp
from quantchat.tui.control import memory_speed
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.meter_words import EXPLANATIONS, unknown
from quantchat.tui.reading import Reading, exchange_tokens
from quantchat.tui.screens.chat import ChatScreen
from quantchat.tui.screens.explain import ExplainScreen, explanation
from quantchat.tui.screens.meters import MetersScreen
from quantchat.tui.widgets.memory_bar import PARTS, cells_of, memory_bar, parts_of
from quantchat.tui.widgets.meter_rows import meters
from quantchat.tui.widgets.meters import MeterPanel, meter_line
from quantchat.tui.widgets.prompt import Prompt

PALETTE = palette_from({})
INFO = model_info(LoadRequest(model="starter", scheme="int8"))
GIB = 1 << 30
CARD = MemoryUse(
    weight_bytes=5 * GIB,
    kv_used_bytes=GIB // 4,
    kv_reserved_bytes=2 * GIB,
    workspace_bytes=GIB,
    peak_bytes=9 * GIB,
    process_bytes=3 * GIB,
    device_total_bytes=80 * GIB,
    device_free_bytes=60 * GIB,
    others_bytes=11 * GIB,
)


def reading(tokens: int = 40, **changes: float | None) -> Reading:
    kept = figures.kept(metrics_of(tokens, INFO), INFO)
    for name, value in changes.items():
        if value is None:
            kept.pop(name)
        else:
            kept[name] = value
    return Reading(kept=kept, info=INFO, memory=memory_use(INFO, tokens))


def text_of(shown_reading: Reading, width: int = 35) -> str:
    rows = meters(shown_reading, width, PALETTE)
    return "\n".join(line.plain for meter in rows for line in meter.lines)


@pytest.mark.parametrize("on_card", [True, False])
@pytest.mark.parametrize("memory", [CARD, memory_use(INFO, 100)])
def test_the_parts_of_memory_are_all_of_it(memory: MemoryUse, on_card: bool) -> None:
    parts = parts_of(memory, on_card=on_card)
    assert sum(part.count_bytes for part in parts) == memory.device_total_bytes
    named = {part.key: part.count_bytes for part in parts}
    assert named["kv_used"] + named["kv_reserved"] == memory.kv_reserved_bytes


def test_the_rest_of_the_program_is_what_the_card_has_given_beyond_our_tensors() -> None:
    named = {part.key: part.count_bytes for part in parts_of(CARD, on_card=True)}
    assert named["program"] == 80 * GIB - 60 * GIB - 11 * GIB - 5 * GIB - 2 * GIB - GIB
    assert named["free"] == CARD.device_free_bytes


@pytest.mark.parametrize("width", [7, 12, 34, 120])
def test_every_part_has_a_cell_and_the_bar_its_width(width: int) -> None:
    parts = parts_of(replace(CARD, weight_bytes=1, kv_used_bytes=1), on_card=True)
    cells = cells_of(parts, width)
    assert sum(cells) == width
    assert all(count >= 1 for count, part in zip(cells, parts, strict=True) if part.count_bytes)
    assert memory_bar(parts, width, PALETTE).cell_length == width


def test_parts_are_told_apart_without_colour() -> None:
    assert len({fill for _, _, fill in PARTS}) == len(PARTS)
    bar = memory_bar(parts_of(CARD, on_card=True), 60, PALETTE).plain
    assert list(dict.fromkeys(bar)) == [fill for _, _, fill in PARTS]


def test_bandwidth_counts_the_context_at_the_middle_of_the_answer() -> None:
    one = reading(
        101, read_bytes_per_token=1_000_000, kv_bytes_per_token=1000, decode_tok_per_s=50.0
    )
    assert one.achieved_bytes_per_s == pytest.approx(50 * (1_000_000 - 50 * 1000))
    text = text_of(replace(one, kept={**one.kept, "read_bytes_per_s": 95e6}))
    assert "50 % of 0.1 GB/s" in text


def test_decoding_faster_than_was_measured_is_no_share() -> None:
    text = text_of(reading(40, read_bytes_per_s=1e9))
    assert "above the 1.0 GB/s known" in text and "%" not in text


def test_energy_is_shown_where_it_means_something() -> None:
    assert "energy        –" in text_of(reading())
    short = reading(11, decode_tok_per_s=100.0, decode_joules=30.0)
    assert short.joules_per_token is None and "1 s of decoding" in unknown("energy", short)
    long = reading(301, decode_tok_per_s=100.0, decode_joules=90.0)
    assert long.joules_per_token == pytest.approx(0.3)
    assert "300 mJ a token" in text_of(long) and unknown("energy", long) == ""


def test_an_unknown_figure_is_a_dash_with_a_reason() -> None:
    nothing = Reading(info=INFO, memory=memory_use(INFO))
    assert text_of(nothing).count("–") == 9
    for key in ("ttft", "itl", "prefill", "decode", "bandwidth", "energy", "context"):
        assert unknown(key, nothing) == "There is no answer yet."
    single = reading(1, decode_tok_per_s=0.0)
    assert "one token" in unknown("itl", single) and "ITL p95       –" in text_of(single)
    assert "processor" in unknown("energy", reading())
    no_rate = replace(reading(read_bytes_per_s=None), info=replace(INFO, read_bytes_per_s=None))
    assert "% of" not in text_of(no_rate) and "measured" in unknown("bandwidth", no_rate)
    assert unknown("weights", nothing) == ""


def test_answers_kept_by_older_versions_show_what_they_have() -> None:
    old = {
        "ttft_s": 0.2,
        "prefill_tok_per_s": 100.0,
        "decode_tok_per_s": 40.0,
        "itl_p50_s": 0.02,
        "itl_p95_s": 0.03,
        "prompt_tokens": 20,
        "cached_tokens": 0,
        "completion_tokens": 40,
        "e2e_s": 1.2,
    }
    kept = Reading(kept=old, live=False)
    text = text_of(kept)
    assert "TTFT          200 ms" in text and "ITL max       –" in text
    assert "reads         –" in text and "tokens        –" in text
    assert unknown("bandwidth", kept) == "This answer was kept before its figure was recorded."
    assert unknown("energy", kept) == "It was not recorded for this answer."
    assert "TTFT 200 ms" in meter_line(kept, 80, PALETTE).plain


def test_every_meter_is_explained() -> None:
    keys = [meter.key for meter in meters(reading(), 35, PALETTE) if meter.key]
    assert len(keys) == len(set(keys)) and set(keys) == set(EXPLANATIONS)
    for key in keys:
        lines = explanation(key, reading(), (), 60, PALETTE)
        assert len(lines) > 5 and all(line.cell_length <= 60 for line in lines)


@pytest.mark.parametrize("width", range(8, 140, 11))
def test_the_line_of_meters_fits_and_begins_with_speed(width: int) -> None:
    line = meter_line(reading(), width, PALETTE)
    assert line.cell_length <= width + 2
    assert width < 20 or line.plain.startswith(" decode 75.3 tok/s")


def test_rows_fit_their_width() -> None:
    for width in (20, 35, 80):
        for meter in meters(reading(), width, PALETTE):
            assert all(line.cell_length <= max(width, 33) for line in meter.lines), meter.key


async def test_an_exchange_is_what_the_context_grew_by(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(160, 60)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "one")
        await answered(pilot, app, 2)
        panel = app.screen.query_one(MeterPanel)
        assert exchange_tokens(app.conversation.path) is None
        assert "left\n" in panel.text_on_screen() and "exchanges" not in panel.text_on_screen()
        first = app.conversation.path[1]
        assert first.metrics is not None
        later = replace(first, metrics={**first.metrics, "context_tokens": 224})
        assert exchange_tokens([first, later]) == 200
        app.conversation.path += [app.conversation.path[0], later]
        app.conversation.measured.turn_id = None
        app.chat_screen.refresh_state()
        assert "1,824 left, about 9 exchanges" in panel.text_on_screen()


async def in_front(
    pilot: Pilot[None], app: QuantchatApp, kind: type[ExplainScreen | MetersScreen | ChatScreen]
) -> None:
    await wait_until(pilot, lambda: isinstance(app.screen, kind))


def explained(app: QuantchatApp) -> str:
    return str(app.screen.query_one("#text").render())


async def test_the_keys_choose_and_explain_a_meter(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(160, 60)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hello")
        await answered(pilot, app, 2)
        panel = app.screen.query_one(MeterPanel)
        await pilot.press("f7")
        await wait_until(pilot, lambda: panel.has_focus)
        await pilot.press("down", "down", "down", "up", "enter")
        await in_front(pilot, app, ExplainScreen)
        await wait_until(pilot, lambda: "Prefill speed" in explained(app))
        await pilot.press("down")
        await wait_until(pilot, lambda: "Decode speed" in explained(app))
        await pilot.press("up", "left")
        await wait_until(pilot, lambda: "inter-token latency" in explained(app))
        await pilot.press("right", "escape")
        await in_front(pilot, app, ChatScreen)
        await pilot.press("end", "question_mark")
        await in_front(pilot, app, ExplainScreen)
        await wait_until(pilot, lambda: explained(app).startswith("Model"))
        await pilot.press("q")
        await in_front(pilot, app, ChatScreen)
        await pilot.press("home", "enter")
        await wait_until(pilot, lambda: "time to first token" in explained(app))
        await pilot.press("enter")
        await in_front(pilot, app, ChatScreen)
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen.query_one(Prompt).has_focus)


async def test_a_click_explains_and_leaves_the_prompt_its_keys(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(160, 60)) as pilot:
        await ready(pilot, app)
        panel = app.screen.query_one(MeterPanel)
        await wait_until(pilot, lambda: "weights" in panel.text_on_screen())
        rows = panel.text_on_screen().splitlines()
        at = next(at for at, row in enumerate(rows) if "weights" in row)
        await pilot.click(panel, offset=Offset(8, at + panel.gutter.top))
        await in_front(pilot, app, ExplainScreen)
        await wait_until(pilot, lambda: "Weights" in explained(app))
        await pilot.press("question_mark")
        await in_front(pilot, app, ChatScreen)
        assert app.screen.query_one(Prompt).has_focus


async def test_a_narrow_terminal_shows_all_meters_in_a_window(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hello")
        await answered(pilot, app, 2)
        await pilot.press("f7")
        await in_front(pilot, app, MetersScreen)
        panel = app.screen.query_one(MeterPanel)
        await wait_until(pilot, lambda: "TTFT" in panel.text_on_screen())
        last = panel.size.height - 1
        assert "more lines" in panel.render_line(last).text
        await pilot.press("end")
        await wait_until(pilot, lambda: panel.render_line(last).text.strip().endswith("cores"))
        await pilot.press("enter")
        await in_front(pilot, app, ExplainScreen)
        await pilot.press("escape")
        await in_front(pilot, app, MetersScreen)
        await pilot.press("f7")
        await in_front(pilot, app, ChatScreen)


async def test_the_line_below_an_answer_opens_its_meters(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("One."), Script("Two and three and four.")]))
    async with app.run_test(size=(160, 50)) as pilot:
        await ready(pilot, app)
        for turns, text in ((2, "first"), (4, "second")):
            await ask(pilot, app, text)
            await answered(pilot, app, turns)
        transcript = app.chat_screen.transcript
        rows = shown(app).splitlines()
        at = next(at for at, row in enumerate(rows) if "1 token" in row)
        await pilot.click(transcript, offset=Offset(40, at + transcript.gutter.top))
        await in_front(pilot, app, MetersScreen)
        panel = app.screen.query_one(MeterPanel)
        await wait_until(pilot, lambda: "ITL p95       –" in panel.text_on_screen())
        assert "Answer 1" in str(app.screen.query_one("#title").render())
        assert "Memory" not in panel.text_on_screen(), "memory is of now, not of then"
        await pilot.press("escape")
        await in_front(pilot, app, ChatScreen)


async def test_what_is_kept_comes_back_from_the_store(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(160, 60)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hello")
        await answered(pilot, app, 2)
        before = app.screen.query_one(MeterPanel).text_on_screen()
        app.writer.flush()
    again = make_app(tmp_path)
    async with again.run_test(size=(160, 60)) as pilot:
        await ready(pilot, again)
        panel = again.screen.query_one(MeterPanel)
        await wait_until(pilot, lambda: "TTFT          157 ms" in panel.text_on_screen())
        share = next(row for row in before.splitlines() if "% of 40.0 GB/s" in row)
        assert share in panel.text_on_screen()


async def test_the_processors_memory_is_measured_once_when_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def measure(threads: int) -> float:
        measured.append(threads)
        return 12e9

    monkeypatch.setattr(memory_speed, "QUIET_S", 0.2)
    monkeypatch.setattr("quantchat.engine.bandwidth.cpu_read_bytes_per_s", measure)
    monkeypatch.setattr(bandwidth, "_file", lambda: tmp_path / "bandwidth.json")
    app = make_app(tmp_path)
    async with app.run_test(size=(160, 60)) as pilot:
        await ready(pilot, app)
        assert app.loads.info is not None
        app.loads.info = replace(app.loads.info, read_bytes_per_s=None)
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.read_bytes_per_s == 12e9)
        app.loads.info = replace(app.loads.info, read_bytes_per_s=None)
        await asyncio.sleep(0.6)
    assert len(measured) == 1
    assert "12000000000" in (tmp_path / "bandwidth.json").read_text()


async def test_a_measurement_that_decoding_has_beaten_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_speed, "QUIET_S", 0.2)
    monkeypatch.setattr("quantchat.engine.bandwidth.cpu_read_bytes_per_s", lambda threads: 33e9)
    monkeypatch.setattr(bandwidth, "_file", lambda: tmp_path / "bandwidth.json")
    app = make_app(tmp_path)
    async with app.run_test(size=(160, 60)) as pilot:
        await ready(pilot, app)
        assert app.loads.info is not None
        app.loads.info = replace(app.loads.info, read_bytes_per_s=2e9)
        await ask(pilot, app, "hello")
        await answered(pilot, app, 2)
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.read_bytes_per_s == 33e9)
