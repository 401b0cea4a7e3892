"""What the list of models draws, and how little of it a key draws anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from picker_app import QWEN, Library, opened
from picker_support import offer, repo

from quantchat.tui.screens.models import ModelsScreen
from quantchat.tui.screens.repo import RepoScreen
from quantchat.tui.widgets import picker_list


def counted_rows(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The entry of every row that is drawn from now on."""
    drawn: list[object] = []
    plain = picker_list.row

    def counted(entry: object, *args: object, **kwargs: object) -> object:
        drawn.append(entry)
        return plain(entry, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(picker_list, "row", counted)
    return drawn


async def test_text_of_the_hub_is_never_markup(tmp_path: Path) -> None:
    library = Library()
    evil = "[red]x[/]\x1b[31m[@click=app.quit]"
    library.found = [repo(QWEN, license=evil, updated="[b]")]
    library.offers[QWEN] = offer(QWEN, license=evil, architecture=evil)
    async with opened(tmp_path, library) as made:
        await made.type("qwen")
        await made.until(lambda: QWEN in made.text and "[red]x[/] [31m" in made.about)
        await made.pilot.press("enter")
        await made.until(lambda: isinstance(made.app.screen, RepoScreen))
        await made.until(lambda: "[red]x[/] [31m" in str(made.repo.query_one("#facts").render()))


async def test_only_rows_on_the_screen_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library()
    library.found = [repo(f"o/qwen-{at}", downloads=at) for at in range(5000)]
    async with opened(tmp_path, library) as made:
        await made.type("qwen")
        await made.until(lambda: made.picker.rows.count == 5000)
        drawn = counted_rows(monkeypatch)
        await made.pilot.press("minus")
        await made.until(lambda: made.picker.search.query == "qwen-" and drawn)
        await made.until(lambda: made.picker.search.state == "found")
        assert len(drawn) < 1000


async def test_a_letter_that_leaves_the_rows_draws_none_of_them_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library()
    library.found = [repo(f"o/qwen-{at}", downloads=at) for at in range(100)]
    async with opened(tmp_path, library) as made:
        await made.type("qwen")
        rows = made.picker.rows
        # The first key sorts what is known; the next ones keep its order.
        made.picker.type("qwe")
        await made.until(lambda: rows.count == 100 and rows.drawn == rows.shows)
        drawn = counted_rows(monkeypatch)
        made.picker.type("qw")
        await made.until(lambda least=rows.shows: rows.drawn >= least)
        assert not drawn
        made.app.theme = "paper"
        await made.until(lambda: len(drawn) > 5)
        # Frames of the new theme may still be coming, for some moves.
        moved: list[int] = []
        while len(moved) < 10 and not (moved and moved[-1] <= 4):
            drawn.clear()
            rows.move_to(rows.cursor + 1)
            await made.until(lambda: drawn)
            moved.append(len(drawn))
        assert moved[-1] <= 4, moved


async def test_what_is_typed_lays_out_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library()
    library.found = [repo(f"o/qwen-{at}", downloads=at) for at in range(200)]
    layouts: list[object] = []
    refresh_layout = ModelsScreen._refresh_layout

    def counted(screen: ModelsScreen, *args: object, **kwargs: object) -> None:
        layouts.append(screen.typed)
        refresh_layout(screen, *args, **kwargs)  # type: ignore[arg-type]

    async with opened(tmp_path, library, size=(180, 40)) as made:
        await made.type("qwen")
        rows = made.picker.rows
        await made.until(lambda: rows.count == 200 and rows.drawn == rows.shows)
        await made.until(lambda: rows.show_vertical_scrollbar and not made.picker._layout_required)
        monkeypatch.setattr(ModelsScreen, "_refresh_layout", counted)
        for typed in ("qwen-1", "qwen-17", "qwen-179", "qwen", "qw"):
            made.picker.type(typed)
            await made.until(lambda least=rows.shows: rows.drawn >= least)
        assert rows.show_vertical_scrollbar and not layouts
