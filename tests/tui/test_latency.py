"""Plots of a conversation: scales, charts of any size, and the screen that shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_support import answered, ask, fake, make_app, ready, wait_until
from fake_facts import memory_use, metrics_of, model_info
from fakes import FakeEngine, Script
from textual.geometry import Offset

from quantchat.engine.metrics import GapRuns
from quantchat.events import NO_GAPS, Stats
from quantchat.requests import LoadRequest
from quantchat.store.records import Figures
from quantchat.tui import figures
from quantchat.tui.control.charts import (
    answer_words,
    context_chart,
    gap_chart,
    speed_chart,
    ttft_chart,
)
from quantchat.tui.control.measured import TRACES_KEPT, Measured
from quantchat.tui.control.readings import Answered
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.reading import Reading
from quantchat.tui.screens.chat import ChatScreen
from quantchat.tui.screens.latency import LatencyScreen
from quantchat.tui.screens.meters import MetersScreen
from quantchat.tui.widgets.axes import round_top, speed_label, time_label, tokens_label
from quantchat.tui.widgets.plot import Plot
from quantchat.tui.widgets.plots import Column, Columns, Curve, Drawn, draw

PALETTE = palette_from({})
INFO = model_info(LoadRequest(model="starter", scheme="int8"))


def answer(number: int, kept: Figures | None = None, scheme: str = "int8") -> Answered:
    kept = figures.kept(metrics_of(20 + number, INFO), INFO) if kept is None else kept
    return Answered(
        turn_id=number,
        number=number,
        model="starter",
        scheme=scheme,
        kv="16bit",
        reading=Reading(kept=kept, live=False),
    )


def columns(*values: float, chosen: int = 0) -> Columns:
    return Columns(
        title="A title",
        legend=((0, "one"),),
        columns=tuple(
            Column(parts=((0, value),) if value else (), mark=str(at + 1))
            for at, value in enumerate(values)
        ),
        chosen=chosen,
        label=time_label,
        nothing="nothing yet",
    )


def rows_of(drawn: Drawn) -> list[str]:
    return [line.plain for line in drawn.lines]


@pytest.mark.parametrize(
    ("highest", "top"),
    [(0.0, 1), (1, 1), (1.01, 1.5), (7, 8), (9.2, 10), (0.0031, 0.004), (1234, 1500)],
)
def test_the_top_of_a_scale_is_round_and_not_below(highest: float, top: float) -> None:
    assert round_top(highest) == pytest.approx(top)
    assert round_top(float("nan")) == 1


def test_labels_say_their_unit() -> None:
    labels = [time_label(value) for value in (0, 2e-5, 0.25, 1.5)]
    assert labels == ["0", "20 µs", "250 ms", "1.5 s"]
    assert speed_label(1250) == "1,250 tok/s"
    assert tokens_label(2500) == "2.5k tok" and tokens_label(30) == "30 tok"


def test_columns_are_as_high_as_their_values() -> None:
    drawn = rows_of(draw(columns(0.1, 0.05, 0, 1e-6), 40, 12, PALETTE))
    body = drawn[2:-2]
    heights = [sum(row[at] != " " for row in body) for at in (7, 13, 19, 25)]
    assert heights == [8, 4, 0, 1]
    assert body[0].startswith("100 ms┤") and body[4].startswith(" 50 ms┤")
    assert body[-1][25] == "▁", "what is there is seen"
    assert drawn[-2].startswith("     0└") and "▲1" in drawn[-1]


def test_parts_of_a_column_keep_their_order_and_patterns() -> None:
    chart = Columns(
        title="",
        legend=(),
        columns=(Column(parts=((0, 2.0), (1, 2.0), (2, 4.0)), mark="1"),),
        chosen=0,
        label=time_label,
        nothing="",
    )
    body = rows_of(draw(chart, 30, 12, PALETTE))[2:-2]
    assert "".join(row[4] for row in body) == "▒▒▒▒▓▓██"


@pytest.mark.parametrize("count", [1, 2, 9, 40, 700])
@pytest.mark.parametrize(("width", "height"), [(38, 9), (98, 21), (24, 7), (10, 5), (30, 3)])
def test_a_chart_fits_and_shows_the_chosen_column(count: int, width: int, height: int) -> None:
    for chosen in (0, count // 2, count - 1):
        drawn = draw(columns(*[0.01 * (at + 1) for at in range(count)], chosen=chosen), width,
                     height, PALETTE)  # fmt: skip
        assert len(drawn.lines) <= height
        assert all(line.cell_length <= width for line in drawn.lines), (
            "a number that is cut is another"
        )
        if drawn.count:
            assert drawn.first <= chosen < drawn.first + drawn.count
            x = drawn.left + (chosen - drawn.first) * drawn.pitch
            assert drawn.column_at(x) == chosen
            assert f"▲{chosen + 1}" in drawn.lines[-1].plain
            assert drawn.column_at(0) is None and drawn.column_at(width * 9) is None


def test_a_curve_reaches_its_peak_and_says_where_it_ends() -> None:
    runs = GapRuns()
    for at in range(600):
        runs.add(0.08 if at == 300 else 0.01)
    trace = runs.trace()
    chart = Curve(
        title="",
        legend=(),
        mean=trace.mean_s,
        peaks=trace.max_s,
        first="token 2",
        last="token 601",
        label=time_label,
        nothing="",
    )
    drawn = rows_of(draw(chart, 60, 14, PALETTE))
    assert drawn[2].startswith("80 ms┤")
    high = [at for at, cell in enumerate(drawn[2][6:]) if cell != " "]
    assert len(high) == 1 and 20 < high[0] < 34, "one gap in the middle"
    assert drawn[-1].split() == ["token", "2", "token", "601"]


def test_answers_of_older_versions_and_failed_ones_are_charted_as_far_as_they_go() -> None:
    old = {"ttft_s": 0.2, "decode_tok_per_s": 30.0, "completion_tokens": 5, "prompt_tokens": 9}
    answers = [answer(1, old), answer(2, {}), answer(3)]
    assert ttft_chart(answers, 0).columns[0].parts == ((2, 0.2),)
    assert ttft_chart(answers, 0).columns[1].parts == ()
    assert [kind for kind, _ in ttft_chart(answers, 0).columns[2].parts] == [0, 1, 2, 3]
    assert speed_chart(answers, 0).columns[0].parts == ((0, 30.0),)
    assert context_chart(answers, 0).columns[0].parts == ((0, 0), (1, 9), (2, 5))
    assert answer_words(answers[1]) == ("answer 2 · starter · int8 · kv 16bit", "not measured")
    for chart in (ttft_chart, speed_chart, context_chart):
        assert draw(chart([], 0), 40, 10, PALETTE).lines[-1].plain.strip() != ""
        assert draw(chart(answers, 1), 40, 10, PALETTE).count == 3


def test_speeds_are_told_apart_by_scheme() -> None:
    chart = speed_chart([answer(1), answer(2, scheme="int4"), answer(3)], 0)
    assert chart.legend == ((0, "int8 · kv 16bit"), (1, "int4 · kv 16bit"))
    assert [column.parts[0][0] for column in chart.columns] == [0, 1, 0]


def test_gaps_that_were_not_kept_are_said_so() -> None:
    drawn = draw(gap_chart([answer(1)], 0), 60, 10, PALETTE)
    assert "kept while the app is open" in " ".join(rows_of(drawn))
    assert "No answer" in " ".join(rows_of(draw(gap_chart([], 0), 60, 10, PALETTE)))


def test_gaps_of_a_bounded_number_of_answers_are_kept() -> None:
    measured = Measured()
    for turn_id in range(TRACES_KEPT + 1):
        metrics = metrics_of(9 + turn_id % 3, INFO)
        measured.take(
            turn_id,
            Stats(request_id=1, slot="main", metrics=metrics, memory=memory_use(INFO), time_s=0.0),
        )
    assert measured.trace(0) == NO_GAPS
    assert len(measured.trace(1).mean_s) == 9 and measured.turn_id == TRACES_KEPT


def plot(app: object, name: str) -> str:
    return app.screen.query_one(f"#{name}", Plot).text_on_screen()  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_the_screen_follows_the_conversation(tmp_path: Path, size: tuple[int, int]) -> None:
    engine = FakeEngine([Script("One two three."), Script("Four five six."), Script("Seven.")])
    app = make_app(tmp_path, engine)
    async with app.run_test(size=size) as pilot:
        await ready(pilot, app)
        await pilot.press("f6")
        await wait_until(pilot, lambda: isinstance(app.screen, LatencyScreen))
        await wait_until(pilot, lambda: "No answer" in plot(app, "ttft"))
        await pilot.press("f6")
        await wait_until(pilot, lambda: isinstance(app.screen, ChatScreen))
        for turns in (2, 4):
            await ask(pilot, app, "and then?")
            await answered(pilot, app, turns)
        engine.hold_answers = True
        await ask(pilot, app, "and last?")
        await wait_until(pilot, lambda: app.conversation.answering is not None)
        await pilot.press("f6")
        await wait_until(pilot, lambda: "▲3" in plot(app, "speed"))
        words = app.screen.query_one("#words")
        await wait_until(pilot, lambda: "not measured" in str(words.render()))
        fake(app).hold_answers = False
        await wait_until(pilot, lambda: "TTFT" in str(words.render()))
        assert "200 ms┤" in plot(app, "ttft") and "█ int8" in plot(app, "speed")
        assert "room for 2,048" in plot(app, "context")
        await pilot.press("left", "left")
        await wait_until(pilot, lambda: "▲1" in plot(app, "context"))
        assert "(ITL), answer 1" in plot(app, "gaps") and "token 3" in plot(app, "gaps")
        await pilot.press("right")
        await wait_until(pilot, lambda: "answer 2 · starter" in str(words.render()))
        await pilot.press("home")
        await wait_until(pilot, lambda: "▲1" in plot(app, "ttft"))
        await pilot.press("end")
        await wait_until(pilot, lambda: "▲3" in plot(app, "ttft"))
        chart = app.screen.query_one("#ttft", Plot)
        await pilot.click(chart, offset=Offset(9, chart.size.height - 3))
        await wait_until(pilot, lambda: "answer 1 · starter" in str(words.render()))
        for key in ("enter", "question_mark"):
            await pilot.press(key)
            await wait_until(pilot, lambda: isinstance(app.screen, MetersScreen))
            await pilot.press("q")
            await wait_until(pilot, lambda: isinstance(app.screen, LatencyScreen))
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ChatScreen))
