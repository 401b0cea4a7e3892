"""What both lists have in common: a cursor that is seen in every theme, and rows shown whole."""

from __future__ import annotations

import gc
import time

import pytest
from app_support import wait_until
from rich.segment import Segment
from rich.style import Style
from textual.app import App, ComposeResult
from textual.cache import FIFOCache
from textual.color import Color
from textual.filter import DimFilter
from textual.strip import Strip

from quantchat.store.finding import Found
from quantchat.store.records import Chat
from quantchat.tui.theming import own_themes
from quantchat.tui.widgets.chat_list import ChatList
from quantchat.tui.widgets.strips import WholeStrip

ROWS = 60


class ListApp(App[None]):
    """Nothing but the list."""

    def __init__(self, theme: str) -> None:
        super().__init__(ansi_color=theme == "sixteen")
        for each in own_themes():
            self.register_theme(each)
        self.theme = theme

    def compose(self) -> ComposeResult:
        yield ChatList(id="list")


def found() -> list[Found]:
    now_s = time.time()
    return [
        Found(
            chat=Chat(
                id=number,
                title=f"Chat {number}",
                created_s=now_s,
                updated_s=now_s,
                model="starter",
                scheme="int4",
                kv="16bit",
                system_prompt="",
                pinned=False,
                tags=(),
                sampling=None,
            ),
            snippet="a blue sky " * 20,
        )
        for number in range(ROWS)
    ]


def styles_of(rows: ChatList, line: int) -> list[tuple[str, Style]]:
    return [(each.text, each.style or Style()) for each in rows.render_line(line)]


@pytest.mark.parametrize("theme", ["ink", "paper", "sixteen", "phosphor", "plain"])
async def test_the_cursor_stands_out_and_its_text_can_be_read(theme: str) -> None:
    app = ListApp(theme)
    async with app.run_test(size=(80, 24)) as pilot:
        rows = app.query_one(ChatList)
        rows.show(found(), ROWS, terms=("sky",), empty="")
        await wait_until(pilot, lambda: rows.room < 80)
        chosen = [*styles_of(rows, 1), *styles_of(rows, 2)]
        grounds = {(style.bgcolor, style.reverse) for _, style in chosen}
        others = {(style.bgcolor, style.reverse) for _, style in styles_of(rows, 3)}
        assert len(grounds) == 1
        assert not grounds & others, "the chosen row looks as the others do"
        for text, style in chosen:
            assert not text.strip() or style.reverse or style.color != style.bgcolor, (
                f"{text!r} cannot be seen"
            )


async def test_a_long_list_shows_whole_rows_beside_the_scroll_bar() -> None:
    app = ListApp("ink")
    async with app.run_test(size=(80, 24)) as pilot:
        rows = app.query_one(ChatList)
        rows.show(found(), ROWS, terms=("sky",), empty="")
        await wait_until(pilot, lambda: rows.show_vertical_scrollbar)
        await wait_until(pilot, lambda: rows.room < 80)
        assert not rows.show_horizontal_scrollbar
        name, snippet = (rows.render_line(number).text for number in (1, 2))
        assert name.endswith(" int4 · now ")
        assert snippet.endswith("…")
        assert len(name) == len(snippet) == rows.room


def test_a_row_that_was_drawn_whole_is_freed_without_the_collector() -> None:
    row = WholeStrip([Segment("some words")], 10)
    assert row.divide([10]) == [row] == row.divide([10, 14])
    assert [part.text for part in row.divide([4, 10])] == ["some", " words"]
    assert row not in kept_by(row)
    textual_s = Strip([Segment("some words")], 10)
    textual_s.divide([10])
    assert textual_s in kept_by(textual_s), "Textual's own does no longer: ours may go"


def test_a_row_behind_a_filter_is_freed_too_and_made_once() -> None:
    row = WholeStrip([Segment("some words", Style.parse("dim #ff0000 on #0000ff"))], 10)
    dim, black = DimFilter(), Color(0, 0, 0)
    dimmed = row.apply_filter(dim, black)
    assert row.apply_filter(dim, black) is dimmed
    assert dimmed.text == "some words" and [*dimmed] != [*row]
    assert dimmed.divide([10]) == [dimmed]
    assert dimmed not in kept_by(dimmed)


def kept_by(row: Strip) -> list[object]:
    """What the caches of a row hold."""
    found = [each for each in gc.get_referents(row) if isinstance(each, FIFOCache)]
    for _ in range(3):
        found = gc.get_referents(*found)
    return [each for each in found if isinstance(each, Strip)]
