"""Use the app for a long time and see that nothing grows: `soak.py --minutes 30`.

The app as the command builds it, in a folder of its own, everything drawn into nowhere; scripted
answers, or the starter model's with --real. Exit code 1 where something grew or went wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from array import array
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import textual.app
import textual.pilot
from app_support import FakeLibrary, FakeSchemes
from moves import MOVES, StuckError, User
from textual.pilot import Pilot
from watch import Problems, Sample, lines_of, sample, verdict

from quantchat.bench.scripted import ScriptedEngine, long_answer
from quantchat.cli.bench_ui_app import draw_nowhere, heartbeat
from quantchat.engine.api import Engine
from quantchat.settings.model import Settings
from quantchat.store.chats import Chats
from quantchat.store.db import open_database
from quantchat.tui import clipboard
from quantchat.tui.app import QuantchatApp

SIZE = (120, 40)
SCRIPTED_TOK_PER_S = 2000.0
ANSWERS = tuple(long_answer(lines, items=lines // 2, rows=lines // 4) for lines in (4, 12, 30, 80))
REAL_TOKENS = 64


def scripted_engine() -> Engine:
    """Answers of several lengths."""
    return ScriptedEngine(ANSWERS, SCRIPTED_TOK_PER_S)


def make_app(folder: Path, *, real: bool) -> QuantchatApp:
    """The app upon an empty folder."""
    if real:
        from quantchat.engine.session import Session
        from quantchat.tui.control.hub_library import HubLibrary

        settings = Settings(max_tokens=REAL_TOKENS)
        made = QuantchatApp(
            Session(),
            settings,
            Chats(open_database(folder / "conversations.db")),
            HubLibrary(),
            settings_path=folder / "settings.toml",
            new_engine=Session,
        )
    else:
        made = QuantchatApp(
            scripted_engine(),
            Settings(),
            Chats(open_database(folder / "conversations.db")),
            FakeLibrary(),
            schemes=FakeSchemes(),
            settings_path=folder / "settings.toml",
            new_engine=scripted_engine,
        )
    draw_nowhere(made)
    return made


MOVES_LEAST = 20
"""Fewer tell nothing of what is left behind."""


class Soak:
    """One run: moves by chance until the time is up, samples in between."""

    def __init__(self, app: QuantchatApp, *, seconds: float, seed: int) -> None:
        self.app = app
        self.problems = Problems()
        self.samples: list[Sample] = []
        # Of eight bytes each: half an hour of them is no growth of the app's.
        self.lags = array("d")
        self.done: Counter[str] = Counter()
        self._seconds = seconds
        self._chance = random.Random(seed)

    async def run(self) -> None:
        """Open the app, use it, close it."""
        self.problems.watch_loop()
        await self.app.run_async(size=SIZE, auto_pilot=self._drive)

    async def _drive(self, pilot: Pilot[None]) -> None:
        user = User(app=self.app, pilot=pilot, chance=self._chance)
        beat = asyncio.create_task(heartbeat(self.lags))
        began_s = said_s = time.monotonic()
        try:
            await user.ready()
            while (now_s := time.monotonic()) - began_s < self._seconds or self._too_few:
                await self._move(user)
                self.samples.append(sample(self.app, now_s - began_s))
                if now_s - said_s > 60:
                    said_s = now_s
                    say(f"{(now_s - began_s) / 60:.0f} min, {sum(self.done.values())} moves")
        except StuckError as error:
            self.problems.words.append(str(error))
        finally:
            beat.cancel()
            self.app.exit()

    @property
    def _too_few(self) -> bool:
        """A slow machine makes few moves in a short time."""
        return sum(self.done.values()) < MOVES_LEAST

    async def _move(self, user: User) -> None:
        moves, weights = zip(*MOVES, strict=True)
        move = user.chance.choices(moves, weights)[0]
        self.done[move.__name__] += 1
        try:
            await move(user)
        except StuckError as error:
            raise StuckError(f"{move.__name__}: {error}") from None
        await user.home()


def say(line: str) -> None:
    """At once, and not into the app, which takes what is printed."""
    print(line, file=sys.__stdout__, flush=True)


async def _soon(*_: float) -> None:
    """Textual waits for an idle process after a key, which a streaming app is not."""
    await asyncio.sleep(0.02)


def main() -> int:
    """Run, tell, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="the starter model answers")
    options = parser.parse_args()
    clipboard.copy = lambda *_: []  # the user's own is left alone
    textual.app.wait_for_idle = textual.pilot.wait_for_idle = _soon  # type: ignore[assignment]
    with tempfile.TemporaryDirectory(prefix="quantchat-soak-") as folder:
        app = make_app(Path(folder), real=options.real)
        soak = Soak(app, seconds=options.minutes * 60, seed=options.seed)
        logging.basicConfig(level=logging.ERROR, handlers=[soak.problems], force=True)
        soak.problems.watch_workers()
        asyncio.run(soak.run())
    if app.return_code:
        soak.problems.words.append(f"the app ended with code {app.return_code}")
    for line in lines_of(soak.samples, soak.lags, soak.done):
        say(line)
    broken = verdict(soak.samples, soak.problems.words)
    for words in broken:
        say(f"NOT WELL: {words}")
    say("flat" if not broken else f"{len(broken)} things are not well")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
