"""However long it is used: drawn rows, strips, screens and memory stay bounded, nothing is lost."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from pathlib import Path

from app_support import drawn as settle
from app_support import make_app, ready, wait_until
from rich.color import ColorSystem
from rich.style import Style
from textual._styles_cache import StylesCache
from textual.app import App, ComposeResult
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import TextArea
from world import home, world

from quantchat.bench.scripted import long_answer
from quantchat.tui.style_cache import STYLES_KEPT
from quantchat.tui.widgets.transcript import STRIPS_KEPT, Transcript
from quantchat.tui.widgets.turn import Turn
from quantchat.tui.widgets.turn_stack import KEPT_ROWS, WINDOW_ROWS

EXCHANGES = 1000
SETTLED = 800
"""By then the window and Textual's caches of styles are full."""
ANSWER = "Some words.\n\n- one\n- **two** of `three`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\nx = 1\n```"
OBJECTS = 4
"""What an exchange may leave for good, as objects that the collector counts."""


class Stage(App[None]):
    """Only a transcript."""

    CSS = "Transcript { height: 1fr; overflow-y: scroll; scrollbar-size-vertical: 1; }"

    def compose(self) -> ComposeResult:
        yield Transcript(id="transcript")


async def exchange(transcript: Transcript, number: int) -> None:
    """A question and an answer that streams, as a conversation brings them."""
    key = 2 * number + 1
    transcript.add(Turn(key=key, role="user", text=f"question {number}"))
    transcript.add(Turn(key=key + 1, role="assistant", text="", label="model", state="waiting"))
    text = f"answer {number}\n\n{ANSWER}"
    transcript.append(key + 1, text)
    done = Turn(key=key + 1, role="assistant", text=text, label="model", figures="9 tokens")
    transcript.update(done)
    await asyncio.sleep(0)


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


async def test_two_thousand_messages_leave_a_bounded_picture() -> None:
    app = Stage()
    async with app.run_test(size=(80, 30)):
        transcript = app.query_one(Transcript)
        before = 0
        for number in range(EXCHANGES):
            if number == SETTLED:
                await settle(app)
                before = objects()
            await exchange(transcript, number)
            assert transcript.stack.rows <= KEPT_ROWS + WINDOW_ROWS
        await settle(app)
        assert objects() - before < OBJECTS * (EXCHANGES - SETTLED)
        assert len(transcript.turns) == 2 * EXCHANGES
        assert len(transcript._strips) <= STRIPS_KEPT
        assert sum(len(drawn.lines) for drawn in transcript.stack.drawn) == transcript.stack.rows
        assert transcript.follow and transcript.scroll_y == transcript.max_scroll_y
        assert f"question {EXCHANGES - 1}\n" in transcript.text_on_screen()


def numbers(transcript: Transcript) -> list[int]:
    """Of the answers that are drawn, from top to bottom."""
    lines = transcript.text_on_screen().splitlines()
    return [int(line.split()[1]) for line in lines if line.strip().startswith("answer ")]


async def filled(app: App[None], exchanges: int) -> Transcript:
    transcript = app.query_one(Transcript)
    turns: list[Turn] = []
    for number in range(exchanges):
        turns.append(Turn(key=2 * number + 1, role="user", text=f"question {number}"))
        text = f"answer {number}\n\n" + long_answer(60).replace("part", f"part{number}_")
        turns.append(Turn(key=2 * number + 2, role="assistant", text=text, label="model"))
    transcript.show(turns)
    await settle(app)
    return transcript


async def test_the_window_moves_through_a_long_conversation_and_back() -> None:
    app = Stage()
    async with app.run_test(size=(80, 30)):
        transcript = await filled(app, 24)
        assert transcript.follow and transcript.stack.rows < 2 * WINDOW_ROWS
        transcript.action_scroll_home()
        await settle(app)
        assert not transcript.follow and transcript.stack.first == 0
        assert transcript.stack.rows < 2 * WINDOW_ROWS and numbers(transcript)[0] == 0
        seen = set(numbers(transcript))
        while not transcript.stack.at_end:
            transcript.scroll_to(y=transcript.max_scroll_y, animate=False)
            place = transcript.render_line(0).text
            await settle(app)
            assert transcript.render_line(0).text == place
            drawn = numbers(transcript)
            assert drawn == list(range(drawn[0], drawn[-1] + 1))
            assert transcript.stack.rows < KEPT_ROWS + WINDOW_ROWS
            seen |= set(drawn)
        assert seen == set(range(24)) and not transcript.follow
        while transcript.stack.first > 0:
            transcript.scroll_to(y=0.0, animate=False)
            place = transcript.render_line(0).text
            await settle(app)
            assert transcript.render_line(0).text == place
            assert transcript.stack.rows < KEPT_ROWS + WINDOW_ROWS
            transcript.scroll_to(y=5, animate=False)
        assert numbers(transcript)[0] == 0
        transcript.action_scroll_end()
        await settle(app)
        assert transcript.follow and numbers(transcript)[-1] == 23
        assert transcript.scroll_y == transcript.max_scroll_y


async def test_what_streams_while_the_first_turns_are_read_is_there_at_the_end() -> None:
    app = Stage()
    async with app.run_test(size=(80, 30)):
        transcript = await filled(app, 20)
        transcript.add(Turn(key=100, role="assistant", text="", label="model", state="waiting"))
        transcript.append(100, "the beginning, ")
        transcript.action_scroll_home()
        await settle(app)
        assert "the beginning" not in transcript.text_on_screen()
        transcript.append(100, "the middle, ")
        transcript.add(Turn(key=-1, role="notice", text="a word between"), before=100)
        transcript.add(Turn(key=101, role="user", text="asked meanwhile"))
        assert "question 0" in transcript.render_line(0).text and not transcript.follow
        transcript.append(100, "the end")
        transcript.action_scroll_end()
        await settle(app)
        text = transcript.text_on_screen()
        assert "the beginning, the middle, the end" in text and "asked meanwhile" in text
        assert text.index("a word between") < text.index("the beginning")
        transcript.append(100, " of it")
        assert "the end of it" in transcript.text_on_screen()


async def test_a_turn_far_away_is_brought_into_view_when_it_is_chosen() -> None:
    app = Stage()
    async with app.run_test(size=(80, 30)):
        transcript = await filled(app, 24)
        for number in (3, 21, 0):
            transcript.choose(2 * number + 1)
            await settle(app)
            assert transcript.stack.index(2 * number + 1) is not None
            assert transcript.stack.rows < KEPT_ROWS + WINDOW_ROWS
            rows = [transcript.render_line(y).text for y in range(30)]
            assert any(f"question {number} " in row for row in rows)


async def test_styles_of_messages_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        for number in range(2 * STYLES_KEPT):
            Strip.render_ansi(Style.from_meta({"message": number}), ColorSystem.TRUECOLOR)
        await wait_until(pilot, lambda: Strip.render_ansi.cache_info().currsize < STYLES_KEPT)


OPENED = 5
KEPT = 2
"""Textual's own caches hold the latest ones of some kinds."""


async def test_closed_screens_are_gone(tmp_path: Path) -> None:
    async with world(tmp_path, (100, 30)) as made:
        for key in ("ctrl+l", "ctrl+o", "f5", "ctrl+s", "f1", "f6", "f8", "ctrl+t"):
            for _ in range(OPENED):
                await made.press(key)
                await made.until(lambda: made.app.screen is not made.app.chat_screen)
                await made.until(lambda: made.app.screen.is_mounted)
                await home(made)
        await settle(made.app)
        gc.collect()
        alive = Counter(
            type(each).__name__ for each in gc.get_objects() if isinstance(each, Screen)
        )
        alive.subtract(type(each).__name__ for each in made.app.screen_stack)
        assert {name: count for name, count in alive.items() if count > KEPT} == {}
        areas = [each for each in gc.get_objects() if isinstance(each, TextArea)]
        assert sum(not each.is_attached for each in areas) <= 2 * KEPT
        whose = {id(each._styles_cache) for each in gc.get_objects() if isinstance(each, Widget)}
        caches = [each for each in gc.get_objects() if isinstance(each, StylesCache)]
        assert sum(id(each) not in whose for each in caches) < 10
