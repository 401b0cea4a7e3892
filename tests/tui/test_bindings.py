"""Every key binding of every screen and widget is pressed, and does what can be seen.

The table is tests/support/effects.py; a binding without an entry fails.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from app_support import answered, ask, wait_until
from effects import EFFECTS, Effect
from fakes import Script
from places import PLACES
from seen import compare_screen, kept_chats, streams, written
from textual.events import Paste
from world import World, home, world

from quantchat import paths
from quantchat.tui.app import QuantchatApp
from quantchat.tui.keymap import bounds_of, keyed_classes

SIZE = (120, 30)
PATIENCE_S = 30.0
LONG = "\n".join(f"line {at} of a long answer" for at in range(90))


async def ask_anew(world: World, said: str) -> None:
    """A conversation of its own with this answer."""
    await world.press("ctrl+n")
    del world.engine.scripts[:]
    world.engine.chats.clear()
    world.engine.scripts.append(Script(said))
    await ask(world.pilot, world.app, "And?")
    await answered(world.pilot, world.app, 2)
    world.app.writer.flush()


async def with_code(world: World) -> None:
    """The last answer has a block of code."""
    await ask_anew(world, "```\ncode\n```")


async def long(world: World) -> None:
    """An answer that is longer than the screen."""
    await ask_anew(world, LONG)


async def stopped(world: World) -> None:
    """An answer that was stopped."""
    await PLACES["streaming"](world)
    await world.press("escape")
    await world.until(lambda: not streams(world))


async def pasted(world: World) -> None:
    """A long text was pasted into the prompt."""
    world.app.chat_screen.prompt.post_message(Paste(LONG * 2))
    await world.until(lambda: written(world))


async def deleted(world: World) -> None:
    """A conversation was just deleted."""
    await PLACES["conversations"](world)
    before = kept_chats(world)
    await world.press("ctrl+end", "f8")
    await world.until(lambda: kept_chats(world) != before)


async def theme_file(world: World) -> None:
    """A theme file has come while the picker is open."""
    await PLACES["themes"](world)
    (paths.user_themes_dir() / "mine.toml").write_text('primary = "#aabbcc"\n')


async def longer_log(world: World) -> None:
    """The log has grown while it is shown."""
    await PLACES["log"](world)
    with paths.log_file().open("a") as file:
        file.write("one line more\n")


async def long_compare(world: World) -> None:
    """Two long answers side by side."""
    await PLACES["compare"](world)
    world.engine.scripts[:] = [Script(LONG)]
    world.engine.chats.clear()
    await ask(world.pilot, world.app, "More?")
    found = compare_screen(world).comparison
    await world.until(lambda: len(world.engine.chats) == 2 and not found.answering)
    await world.pilot.pause()


WAYS = {
    **PLACES,
    "with-code": with_code,
    "long": long,
    "stopped": stopped,
    "pasted": pasted,
    "deleted": deleted,
    "theme-file": theme_file,
    "longer-log": longer_log,
    "long-compare": long_compare,
}
CLASSES = keyed_classes(QuantchatApp)


def test_every_binding_has_an_entry() -> None:
    ids = {bound.id for cls in CLASSES for bound in bounds_of(cls)}
    assert ids - set(EFFECTS) == set(), "press it in a test: add it to EFFECTS"
    assert set(EFFECTS) - ids == set(), "there is no such binding any more"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
async def test_every_key_does_what_can_be_seen(cls: type, tmp_path: Path) -> None:
    broken = []
    async with world(tmp_path, SIZE) as made:
        # The app's first key ends it.
        bounds = sorted(bounds_of(cls), key=lambda bound: bound.id == "app.quit")
        for bound in bounds:
            for key in bound.keys:
                problem = await pressed(made, EFFECTS[bound.id], key)
                if problem:
                    broken.append(f"{bound.id} ({key}): {problem}")
    assert broken == []


async def pressed(world: World, effect: Effect, key: str) -> str:
    """What is wrong with a key, "" for nothing."""
    try:
        await home(world)
        await WAYS[effect.place](world)
        await world.press(*effect.first)
        await world.pilot.pause()
        before = effect.sees(world)
        await world.press(key)
    except Exception as error:
        return f"{effect.place} is not reached: {error!r}"
    try:
        await wait_until(world.pilot, lambda: effect.sees(world) != before, timeout_s=PATIENCE_S)
    except AssertionError:
        return f"nothing changed: still {before!r:.200}"
    return ""
