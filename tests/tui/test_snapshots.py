"""Every screen in two themes and two sizes, as text that can be read and compared.

`make snapshots` takes them anew; the difference in git says what changed.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from traceback import format_exception

import pytest
from pictures import Picture, as_file, difference, from_file, picture_of, strips_of
from places import PLACES, go
from world import NOW_S, World, world

from quantchat.tui.app import QuantchatApp
from quantchat.tui.keymap import keyed_classes
from quantchat.tui.screens.chat import ChatScreen
from quantchat.tui.screens.compare import CompareScreen
from quantchat.tui.widgets import bars

SIZES = ((200, 50), (80, 24))
THEMES = ("ink", "paper")
KEPT = Path(__file__).parent / "snapshots"
TAKE = os.environ.get("QUANTCHAT_TAKE_SNAPSHOTS") == "1"
FOLDER_PREFIX = "quantchat-picture-"
FOLDER_NAME = re.compile(re.escape(FOLDER_PREFIX) + r"\w{8}")
TICK_S = 0.05
STILL_S = 0.2
DIFFERENT_S = 10.0
"""A screen that does not look as it did may be late: so long it has to stand still."""
DIFFERENT = 3
"""After so many that look otherwise the machine is not to blame."""
PATIENCE_S = 30.0


@pytest.fixture(autouse=True)
def clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing on the screen may depend on when it is looked at."""
    monkeypatch.setattr(time, "time", lambda: NOW_S)
    monkeypatch.setattr(bars, "SPINNER", "⠿")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose name has the same length in every run: it stands on some screens."""
    found = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir="/tmp"))
    monkeypatch.setenv("QUANTCHAT_HOME", str(found))
    monkeypatch.chdir(found)
    yield found
    shutil.rmtree(found)


def now_shown(world: World) -> Picture:
    """What is on the screen, without the name of the folder."""
    found = picture_of(strips_of(world.app))
    rows = (FOLDER_NAME.sub(FOLDER_PREFIX + "00000000", row) for row in found.rows)
    return replace(found, rows=tuple(rows))


async def looked_at(world: World, theme: str, kept: Picture | None, still_s: float) -> Picture:
    """The screen once it looks as it did, or else once it has not changed for so long."""
    until_s = time.monotonic() + PATIENCE_S
    await restyle(world, theme)
    now, since_s = now_shown(world), time.monotonic()
    while now != kept and time.monotonic() < min(since_s + still_s, until_s):
        await asyncio.sleep(TICK_S)
        if world.app.theme != theme:
            # A preview that came late.
            await restyle(world, theme)
        before, now = now, now_shown(world)
        if now != before:
            since_s = time.monotonic()
    return now


async def restyle(world: World, theme: str) -> None:
    """Another theme, everywhere at once and not at each screen's next tick."""
    world.app.theme = theme
    world.app.clear_notifications()
    await world.pilot.pause()
    for screen in world.app.screen_stack:
        if isinstance(screen, ChatScreen | CompareScreen):
            screen.refresh_state()
    await world.pilot.pause()


async def take_all(
    folder: Path, size: tuple[int, int]
) -> dict[str, dict[str, Picture] | Exception]:
    """Go everywhere and look at it in each theme."""
    found: dict[str, dict[str, Picture] | Exception] = {}
    different = 0
    async with world(folder, size, theme=THEMES[0]) as made:
        for name in PLACES:
            path = file_of(name, size)
            known = not TAKE and path.exists()
            kept = from_file(path.read_text(encoding="utf-8")) if known else {}
            try:
                await go(made, name)
                pictures = {}
                for theme in (*THEMES[1:], THEMES[0]):
                    patient = theme in kept and different < DIFFERENT
                    still_s = DIFFERENT_S if patient else STILL_S
                    pictures[theme] = await looked_at(made, theme, kept.get(theme), still_s)
                    different += pictures[theme] != kept.get(theme)
                found[name] = {theme: pictures[theme] for theme in THEMES}
            except Exception as error:
                made.app.theme = THEMES[0]
                found[name] = error
    return found


def file_of(name: str, size: tuple[int, int]) -> Path:
    return KEPT / f"{name}-{size[0]}x{size[1]}.txt"


@pytest.mark.timeout(1800)  # a minute on an idle machine
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_every_screen_looks_as_it_did(size: tuple[int, int], folder: Path) -> None:
    taken = asyncio.run(take_all(folder, size))
    problems = [problem for name in PLACES if (problem := compared(name, size, taken[name]))]
    if problems:
        pytest.fail("\n\n".join(problems), pytrace=False)


def compared(name: str, size: tuple[int, int], pictures: dict[str, Picture] | Exception) -> str:
    """What is wrong with a place, "" for nothing; where pictures are taken anew they are kept."""
    path = file_of(name, size)
    if isinstance(pictures, Exception):
        return f"{path.name} could not be taken:\n" + "".join(format_exception(pictures))
    text = as_file(f"{name} at {size[0]}x{size[1]}", pictures)
    if TAKE:
        KEPT.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return ""
    if not path.exists():
        return f"no picture of it yet: `make snapshots` takes {path.name}"
    kept = path.read_text(encoding="utf-8")
    return "" if text == kept else f"{path.name} differs:\n{difference(kept, text)}"


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_file_of_pictures_is_read_as_it_was_written(size: tuple[int, int]) -> None:
    for name in PLACES:
        text = file_of(name, size).read_text(encoding="utf-8")
        assert as_file(text.partition(", themes ")[0], from_file(text)) == text


def test_no_picture_is_left_of_a_place_that_is_gone() -> None:
    wanted = {file_of(name, size).name for name in PLACES for size in SIZES}
    assert {path.name for path in KEPT.glob("*")} - wanted == set()


def test_every_screen_has_a_place() -> None:
    import model_places
    import places
    import world
    from textual.screen import Screen

    screens = {cls for cls in keyed_classes(QuantchatApp) if issubclass(cls, Screen)}
    there = {*vars(places), *vars(model_places), *vars(world)}
    missing = {cls.__name__ for cls in screens} - there
    assert missing == set(), (
        "a screen without a picture: add a way there to tests/support/places.py"
    )
