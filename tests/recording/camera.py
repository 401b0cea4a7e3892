"""Films an app while it is driven: a frame where the screen changed, on a clock of its own.

Real time passes as it is, or faster where a step says so; standing still is cut short, typing paced.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from film import Frame
from frames import Screen, capture
from textual import events
from textual.keys import _character_to_key
from textual.pilot import Pilot

from quantchat.tui.app import QuantchatApp

LOOK_S = 0.04
FRAME_S = 0.12
"""Shortest time that a frame stands, on the film's clock."""
STILL_S = 0.7
"""Longest time that an unchanged screen takes on the film while something is waited for."""
WAIT_S = 2.5
"""Longest time that a load, or another wait that says nothing, takes on the film."""
KEY_S = 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """What stands for no colour."""

    ink: str
    ground: str


class Camera:
    """Drives the app by its pilot and keeps what it showed."""

    def __init__(self, app: QuantchatApp, pilot: Pilot[None], colours: Colours) -> None:
        self.app = app
        self.pilot = pilot
        self.frames: list[Frame] = []
        self.speed = 1.0
        """Film seconds for a real one."""
        self._colours = colours
        self._caption = ""
        self._film_s = 0.0
        self._still_s = 0.0
        self._seen_s = time.perf_counter()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look again and again until the block ends."""
        task = asyncio.create_task(self._look_on())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.look()

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Pass the time, and keep a frame if something changed."""
        now_s = time.perf_counter()
        passed_s = (now_s - self._seen_s) * self.speed
        self._seen_s = now_s
        self._film_s += max(0.0, min(passed_s, STILL_S - self._still_s))
        self._still_s += passed_s
        if self.frames and self._film_s - self.frames[-1].at_s < FRAME_S:
            return
        screen = self._screen()
        if not self.frames or screen != self.frames[-1].screen or self._changed_caption():
            self._keep(screen)

    def caption(self, text: str) -> None:
        """The line below the terminal from here on."""
        self._caption = text

    async def press(self, *keys: str, pause_s: float = 0.5) -> None:
        """Press keys, and show what each did."""
        for key in keys:
            await self._strike(key)
            await self.hold(pause_s)

    async def type(self, text: str) -> None:
        """Write key by key, at the pace of a person."""
        for character in text:
            await self._strike(_character_to_key(character), character)
            await self.hold(KEY_S)

    async def _strike(self, key: str, character: str | None = None) -> None:
        """A key, as the terminal would send it; Pilot's own waits until the machine is idle."""
        event = events.Key(key, character)
        event.set_sender(self.app)
        assert self.app._driver is not None
        self.app._driver.send_message(event)
        await self.pilot._wait_for_screen()

    async def hold(self, seconds: float) -> None:
        """Show what is there for so long, on the film; really it is short."""
        await asyncio.sleep(LOOK_S)
        speed, self.speed = self.speed, 0.0
        self.look()
        screen = self._screen()
        if not self.frames or screen != self.frames[-1].screen or self._changed_caption():
            self._keep(screen)
        self._film_s += seconds
        self._still_s = 0.0
        self._seen_s = time.perf_counter()
        self.speed = speed

    async def until(
        self,
        condition: Callable[[], object],
        what: str,
        *,
        as_it_was: bool = False,
        timeout_s: float = 240.0,
    ) -> None:
        """Let the app run until the condition holds.

        Where the pace is not what is shown, the film gets faster the longer it takes.
        """
        begun_s = time.monotonic()
        while not condition():
            passed_s = time.monotonic() - begun_s
            if passed_s > timeout_s:
                raise TimeoutError(f"the app did not get there: {what}")
            self.speed = 1.0 if as_it_was else math.exp(-passed_s / WAIT_S)
            await asyncio.sleep(LOOK_S / 2)
        self.speed = 1.0

    def poster(self) -> None:
        """The frame that stands where nothing moves."""
        self.look()
        self.frames = [replace(frame, poster=False) for frame in self.frames]
        self.frames[-1] = replace(self.frames[-1], poster=True)

    def _keep(self, screen: Screen) -> None:
        frame = Frame(at_s=self._film_s, screen=screen, caption=self._caption)
        if self.frames and frame.at_s - self.frames[-1].at_s < 1e-3:
            self.frames.pop()
        self.frames.append(frame)
        self._still_s = 0.0

    def _screen(self) -> Screen:
        return capture(self.app, self._colours.ink, self._colours.ground)

    def _changed_caption(self) -> bool:
        return self.frames[-1].caption != self._caption
