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
from pathlib import Path

import pytest
from pictures import Picture, as_file, difference, picture_of, strips_of
from places import NOW_S, PLACES, World, go, world

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
STILL_S = 0.07
STILL_TIMES = 2
PATIENCE_S = 5.0

taken: dict[tuple[int, int], dict[str, dict[str, Picture] | Exception]] = {}
"""By size and place; all pictures of a size are taken in one app."""


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


async def still(world: World) -> Picture:
    """The screen once it has not changed for a while."""
    until_s = time.monotonic() + PATIENCE_S
    now, same = strips_of(world.app), 0
    while same < STILL_TIMES and time.monotonic() < until_s:
        await asyncio.sleep(STILL_S)
        before, now = now, strips_of(world.app)
        same = same + 1 if now == before else 0
    return picture_of(now)


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
    async with world(folder, size, theme=THEMES[0]) as made:
        for name in PLACES:
            try:
                await go(made, name)
                pictures = {}
                for theme in (*THEMES[1:], THEMES[0]):
                    await restyle(made, theme)
                    pictures[theme] = await still(made)
                found[name] = {theme: pictures[theme] for theme in THEMES}
            except Exception as error:
                made.app.theme = THEMES[0]
                found[name] = error
    return found


def file_text(name: str, size: tuple[int, int], pictures: dict[str, Picture]) -> str:
    """As it is kept: without the name of the folder."""
    text = as_file(f"{name} at {size[0]}x{size[1]}", pictures)
    return re.sub(re.escape(FOLDER_PREFIX) + r"\w{8}", FOLDER_PREFIX + "00000000", text)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", PLACES)
def test_a_screen_looks_as_it_did(name: str, size: tuple[int, int], folder: Path) -> None:
    if size not in taken:
        taken[size] = asyncio.run(take_all(folder, size))
    pictures = taken[size][name]
    if isinstance(pictures, Exception):
        raise pictures
    text = file_text(name, size, pictures)
    path = KEPT / f"{name}-{size[0]}x{size[1]}.txt"
    if TAKE:
        KEPT.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    assert path.exists(), f"no picture of it yet: `make snapshots` takes {path.name}"
    kept = path.read_text(encoding="utf-8")
    if text != kept:
        pytest.fail(f"{path.name} differs:\n{difference(kept, text)}", pytrace=False)


def test_no_picture_is_left_of_a_place_that_is_gone() -> None:
    wanted = {f"{name}-{width}x{height}.txt" for name in PLACES for width, height in SIZES}
    assert {path.name for path in KEPT.glob("*")} - wanted == set()


def test_every_screen_has_a_place() -> None:
    import places
    from textual.screen import Screen

    screens = {cls for cls in keyed_classes(QuantchatApp) if issubclass(cls, Screen)}
    missing = {cls.__name__ for cls in screens} - set(vars(places))
    assert missing == set(), (
        "a screen without a picture: add a way there to tests/support/places.py"
    )
