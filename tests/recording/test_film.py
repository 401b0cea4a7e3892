"""The recorder's own parts: cells to runs, frames to a file that every viewer reads, a short film."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from app_support import answered, ask, make_app, ready
from camera import Camera, Colours
from fakes import FakeEngine, Script
from film import Frame, Window, to_svg
from frames import Look, Screen, look_of, mixed, row_of
from rich.style import Style

INK, GROUND = "#c8cdd8", "#14171f"
WINDOW = Window(
    columns=20, rows=3, title="a title", ink=INK, muted=INK, accent="#7aa2f7", ground=GROUND
)
SVG = "{http://www.w3.org/2000/svg}"


def screen(*lines: str) -> Screen:
    return tuple(row_of([(line, Style(color="#ffffff"))], INK, GROUND) for line in lines)


def test_neighbours_of_one_look_are_one_run_and_wide_characters_two_cells() -> None:
    red = Style(color="#ff0000")
    row = row_of([("ab", red), ("日本", red), ("", None), ("c", None)], INK, GROUND)
    assert [(run.cell, run.cells, run.text) for run in row] == [(0, 6, "ab日本"), (6, 1, "c")]
    assert row[1].look == Look(INK, GROUND)


def test_reversed_and_dimmed_looks_are_worked_out() -> None:
    style = Style(color="#ffffff", bgcolor="#000000", reverse=True, bold=True)
    assert look_of(style, INK, GROUND) == Look("#000000", "#ffffff", bold=True)
    assert (
        look_of(Style(color="#ffffff", bgcolor="#000000", dim=True), INK, GROUND).ink == "#808080"
    )
    assert mixed("#102030", "#102030", 0.7) == "#102030"


def test_a_film_is_sound_and_draws_each_row_once() -> None:
    frames = [
        Frame(at_s=0.0, screen=screen("first <row>", "same", ""), caption="a & b"),
        Frame(at_s=1.5, screen=screen("second\x00", "same", ""), caption="a & b", poster=True),
        Frame(at_s=2.5, screen=screen("first <row>", "", "same"), caption="c"),
    ]
    drawn = to_svg(frames, WINDOW)
    root = ElementTree.fromstring(drawn)
    texts = ["".join(each.itertext()) for each in root.iter(f"{SVG}text")]
    assert texts.count("same") == 1 and texts.count("first\N{NO-BREAK SPACE}<row>") == 1
    film = next(each for each in root.iter(f"{SVG}g") if each.get("id") == "film")
    assert len(film) == 3
    names = {each.get("id") for each in root.iter() if each.get("id")}
    uses = [each.get("href", "") for each in root.iter(f"{SVG}use")]
    assert uses and all(use.removeprefix("#") in names for use in uses)
    width = int(root.attrib["width"])
    assert f"#film{{transform:translateX({-width}px);animation:film 5.00s" in drawn
    assert f"30.000%{{transform:translateX({-width}px)}}" in drawn


async def test_what_the_app_shows_is_filmed(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("It scatters light.")]))
    async with app.run_test(size=(80, 24)) as pilot:
        camera = Camera(app, pilot, Colours(ink=INK, ground=GROUND))
        async with camera.running():
            await ready(pilot, app)
            camera.caption("a question")
            await camera.type("Why?")
            await ask(pilot, app, "Why?")
            await answered(pilot, app, 2)
            await camera.hold(1.0)
            camera.poster()
    shown = [
        "\n".join("".join(run.text for run in row) for row in each.screen) for each in camera.frames
    ]
    assert "It scatters light." in shown[-1] and "It scatters light." not in shown[0]
    assert any("Why" in each and "Why?" not in each for each in shown), "typing is seen key by key"
    times = [frame.at_s for frame in camera.frames]
    assert times == sorted(times) and camera.frames[-1].caption == "a question"
    assert sum(frame.poster for frame in camera.frames) == 1
    ElementTree.fromstring(to_svg(camera.frames, WINDOW))
