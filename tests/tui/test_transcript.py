"""The transcript: follows the end, lets go, draws only a window, keeps its place."""

from __future__ import annotations

import random
from typing import Any

import pytest
from app_support import drawn as settle
from textual.app import App, ComposeResult
from textual.content import Content
from textual.geometry import Offset
from textual.selection import Selection
from textual.theme import BUILTIN_THEMES

from quantchat.tui.markup import answer as answer_module
from quantchat.tui.markup.chunks import Chunk
from quantchat.tui.markup.layout import chunk_lines
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.widgets.drawn_turn import DrawnTurn
from quantchat.tui.widgets.transcript import Transcript
from quantchat.tui.widgets.turn import Turn
from quantchat.tui.widgets.turn_stack import WINDOW_TURNS


class Stage(App[None]):
    """Only a transcript."""

    CSS = "Transcript { height: 1fr; overflow-y: scroll; scrollbar-size-vertical: 1; }"

    def compose(self) -> ComposeResult:
        yield Transcript(id="transcript")


def answer(key: int, text: str = "") -> Turn:
    return Turn(key=key, role="assistant", text=text, label="model", state="waiting")


async def test_the_end_is_followed_until_the_user_scrolls_up() -> None:
    app = Stage()
    async with app.run_test(size=(60, 20)):
        transcript = app.query_one(Transcript)
        transcript.add(answer(1))
        for number in range(60):
            transcript.append(1, f"line {number}\n\n")
        await settle(app)
        assert transcript.follow and transcript.scroll_y == transcript.max_scroll_y > 50
        transcript.scroll_to(y=10, animate=False)
        await settle(app)
        assert not transcript.follow
        for number in range(20):
            transcript.append(1, f"more {number}\n\n")
        await settle(app)
        assert transcript.scroll_y == 10
        transcript.scroll_to(y=transcript.max_scroll_y, animate=False)
        await settle(app)
        assert transcript.follow
        transcript.append(1, "the very end\n\n" * 5)
        await settle(app)
        assert transcript.scroll_y == transcript.max_scroll_y
        bottom = [transcript.render_line(y).text for y in range(transcript.size.height)]
        assert "the very end" in "\n".join(bottom)


async def test_a_short_conversation_stands_at_the_top() -> None:
    app = Stage()
    async with app.run_test(size=(60, 20)):
        transcript = app.query_one(Transcript)
        transcript.add(Turn(key=1, role="user", text="hi"))
        await settle(app)
        assert transcript.scroll_y == 0 == transcript.max_scroll_y
        assert "▌ hi" in transcript.render_line(0).text


async def test_earlier_turns_are_drawn_when_they_are_reached() -> None:
    app = Stage()
    async with app.run_test(size=(60, 20)):
        transcript = app.query_one(Transcript)
        turns = [Turn(key=key, role="user", text=f"turn {key}") for key in range(200)]
        transcript.show(turns)
        await settle(app)
        assert len(transcript.stack.drawn) == WINDOW_TURNS
        assert "turn 199" in transcript.text_on_screen()
        assert "turn 100\n" not in transcript.text_on_screen()
        top = turns[-WINDOW_TURNS].text
        transcript.scroll_to(y=0, animate=False)
        await settle(app)
        assert len(transcript.stack.drawn) == 2 * WINDOW_TURNS
        assert top in transcript.render_line(0).text
        transcript.action_scroll_home()
        await settle(app)
        assert "turn 0" in transcript.render_line(0).text


async def test_taking_turns_away_and_narrowing_keeps_the_text() -> None:
    app = Stage()
    async with app.run_test(size=(90, 20)) as pilot:
        transcript = app.query_one(Transcript)
        for key in range(1, 5):
            transcript.add(Turn(key=key, role="user", text=f"turn {key} " + "word " * 30))
        transcript.remove_from(3)
        await settle(app)
        assert "turn 2" in transcript.text_on_screen()
        assert "turn 3" not in transcript.text_on_screen()
        wide = transcript.virtual_size.height
        await pilot.resize_terminal(40, 20)
        await settle(app)
        assert transcript.virtual_size.height > wide
        assert all(len(line) <= 40 for line in transcript.text_on_screen().splitlines())


async def test_selected_text_is_what_was_marked() -> None:
    app = Stage()
    async with app.run_test(size=(60, 20)):
        transcript = app.query_one(Transcript)
        transcript.add(Turn(key=1, role="user", text="first\nsecond"))
        await settle(app)
        selected = transcript.get_selection(Selection(Offset(2, 0), Offset(5, 1)))
        assert selected is not None and selected[0] == "first\nsec"


async def test_a_selection_has_only_what_was_said() -> None:
    app = Stage()
    async with app.run_test(size=(60, 30)):
        transcript = app.query_one(Transcript)
        transcript.add(Turn(key=1, role="user", text="a question", editable=True, versions=2))
        text = "<think>\nthoughts\n</think>\n\nAn answer.\n\n```py\nx = 1\n```"
        done = answer(2, text)
        done.state, done.figures = "done", "9 tokens"
        transcript.add(done)
        transcript.action_fold(2, "thought")
        await settle(app)
        end = Offset(60, transcript.stack.rows)
        selected = transcript.get_selection(Selection(Offset(0, 0), end))
        assert selected is not None
        said = [line.strip() for line in selected[0].splitlines() if line.strip()]
        assert said == [
            *("a question", "model", "▾ reasoning", "thoughts"),
            *("An answer.", "py", "x = 1"),
        ]


THINKING = "<think>\nFirst **this**.\n\n- then that\n- and more\n</think>\n\nSo *it* is.\n\n```\ncode\n```\nEnd."


@pytest.mark.parametrize("unfolded", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_streamed_reasoning_is_drawn_as_when_it_is_whole(seed: int, unfolded: bool) -> None:
    flipped = {(1, "thought")} if unfolded else set()
    palette = palette_from(BUILTIN_THEMES["nord"].to_color_system().generate())
    draw = random.Random(seed)
    streamed = DrawnTurn(answer(1), flipped)
    streamed.turn.state = "streaming"
    streamed.draw(50, palette)
    at = 0
    while at < len(THINKING):
        step = draw.randint(1, 7)
        before = [line.plain for line in streamed.lines]
        first = streamed.append(THINKING[at : at + step], palette)
        at += step
        after = [line.plain for line in streamed.lines]
        assert before[:first] == after[:first]
    whole = DrawnTurn(answer(1, THINKING), flipped)
    whole.turn.state = "done"
    whole.draw(50, palette)
    ours = [line.plain.rstrip() for line in streamed.lines[1:]]
    assert ours == [line.plain.rstrip() for line in whole.lines[1:]]
    assert ("┊ First this." in "\n".join(ours)) == unfolded


async def test_a_turn_is_chosen_marked_and_folded_where_it_stands() -> None:
    app = Stage()
    async with app.run_test(size=(60, 20)) as pilot:
        transcript = app.query_one(Transcript)
        for key in range(1, 40):
            transcript.add(Turn(key=key, role="user", text=f"turn {key}\n" + "more\n" * 4))
        await settle(app)
        transcript.focus()
        transcript.choose(transcript.stack.neighbour(-1))
        for _ in range(20):
            transcript.choose(transcript.stack.neighbour(-1))
        await settle(app)
        assert transcript.stack.chosen == 19
        top = [transcript.render_line(y).text for y in range(20)]
        marked = [row for row in top if "┃" in row]
        assert "turn 19" in marked[0] and len(marked) == 6
        before = transcript.scroll_y
        await pilot.press("space")
        await settle(app)
        folded = [transcript.render_line(y).text for y in range(20)]
        assert transcript.scroll_y == before and not transcript.follow
        assert any("┃▸ turn 19" in row and "… 5 lines" in row for row in folded)
        transcript.remove_from(10)
        assert transcript.stack.chosen is None
        await pilot.press("space", "e")


LISTED = "\n".join(f"- item {at}" for at in range(9))
LONG = "Some words.\n\n" + LISTED + "\n\n```py\nx = 1\n```\n\n```py\nx = 1\n```\n\nAnd the end"


async def test_what_streamed_is_not_drawn_again_when_it_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []

    def watched(chunk: Chunk, *args: Any, **kwargs: Any) -> list[Content]:
        drawn.append(chunk.source)
        return chunk_lines(chunk, *args, **kwargs)

    monkeypatch.setattr(answer_module, "chunk_lines", watched)
    app = Stage()
    async with app.run_test(size=(60, 20)):
        transcript = app.query_one(Transcript)
        transcript.add(answer(1))
        for at in range(0, len(LONG), 5):
            transcript.append(1, LONG[at : at + 5])
        drawn.clear()
        done = Turn(key=1, role="assistant", text=LONG, label="model", figures="9 tokens")
        transcript.update(done)
        assert drawn == ["And the end"]
        lines = transcript.stack.drawn[0].lines
        done.figures = "10 tokens"
        transcript.update(done)
        assert "10 tokens" in transcript.text_on_screen()
        done.figures = "9 tokens"
        transcript.restyle()
        whole = transcript.stack.drawn[0].lines
        assert [(line.plain, line.spans) for line in whole] == [
            (line.plain, line.spans) for line in lines
        ]
        drawn.clear()
        transcript.update(done)
        assert drawn == [], "nothing of it changed"
