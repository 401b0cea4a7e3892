"""The model picker by keys, mouse and paste: search, variants, what fits, downloads."""

from __future__ import annotations

from pathlib import Path

from picker_app import FILE, QWEN, Library, opened
from picker_support import GIB, FakeFits, fits, offer, refused
from transfer_support import FakeTransfers

from quantchat.hub.http import SourceError
from quantchat.tui.control.transfers import Transfer
from quantchat.tui.screens.dialog import Dialog
from quantchat.tui.screens.repo import RepoScreen
from quantchat.tui.widgets.fit_table import FitTable
from quantchat.tui.widgets.hub_line import HubLine
from quantchat.tui.widgets.picker_list import PickerList


async def test_typing_filters_at_once_and_gives_the_former_question_up(tmp_path: Path) -> None:
    library = Library()
    library.hold.clear()
    async with opened(tmp_path, library) as made:
        await made.pilot.press(*"oth")
        await made.until(lambda: "starter" not in made.text and "other" in made.text)
        await made.until(lambda: ("oth", "downloads") in library.asked)
        assert made.picker.search.state == "searching"
        made.picker.type("qwen")
        await made.until(lambda: ("qwen", "downloads") in library.asked)
        await made.until(lambda: "oth" in library.cancelled)
        library.hold.set()
        await made.until(lambda: QWEN in made.text)
        assert "2 found" in made.picker.query_one(HubLine).render().plain


async def test_a_letter_and_the_list_for_it_are_drawn_in_one_frame(tmp_path: Path) -> None:
    async with opened(tmp_path) as made:
        await made.type("qwen")
        rows = made.picker.rows
        assert rows.count == 2
        # Nothing is waited for in between: the list is another one before a frame can be drawn.
        made.picker.type("qwen-")
        assert [entry.name for entry in rows.sections[-1].entries] == ["b/qwen-small"]
        shows = rows.shows
        await made.until(lambda: rows.drawn >= shows)


async def test_a_picker_that_closed_lets_go_of_everything(tmp_path: Path) -> None:
    library, book = Library(), FakeFits()
    library.hold.clear()
    book.hold.clear()
    async with opened(tmp_path, library, book) as made:
        await made.until(lambda: book.asked)
        made.picker.type("qwen")
        await made.until(lambda: library.asked)
        await made.pilot.press("escape")
        await made.until(lambda: made.app.screen is made.app.chat_screen)
        await made.until(lambda: "qwen" in library.cancelled and "starter" in book.cancelled)


async def test_sorting_by_key_and_by_click(tmp_path: Path) -> None:
    library = Library()
    async with opened(tmp_path, library) as made:
        await made.pilot.press("f3")
        await made.until(lambda: library.asked == [("", "updated")])
        await made.until(lambda: QWEN in made.text and "starter" in made.text)
        await made.type("qwen")
        await made.pilot.press("f3")
        await made.until(lambda: library.asked[-1] == ("qwen", "likes"))
        line = made.picker.query_one(HubLine).render().plain
        await made.pilot.click(HubLine, offset=(line.index("trending") + 1, 0))
        await made.until(lambda: library.asked[-1] == ("qwen", "trending"))


async def test_offline_is_said_and_asked_again(tmp_path: Path) -> None:
    library = Library()
    library.search_error = SourceError("no route to the hub", fault="unreachable")
    book = FakeFits()
    book.errors["starter"] = library.search_error
    async with opened(tmp_path, library, book) as made:
        await made.until(lambda: "what fits is not known: no route" in made.about)
        book.errors.clear()
        await made.pilot.press("f5")
        await made.until(lambda: "✓ fits as int4" in made.about)
        await made.pilot.press(*"qwen")
        await made.until(lambda: "offline: no route to the hub" in made.text)
        assert "HF_ENDPOINT" in made.text
        assert "offline" in made.picker.query_one(HubLine).render().plain
        library.search_error = SourceError("the hub asks to slow down", hint="try later")
        await made.pilot.press("f5")
        await made.until(lambda: "slow down" in made.text and "try later" in made.text)
        library.search_error = None
        await made.pilot.press("f5")
        await made.until(lambda: QWEN in made.text and "slow down" not in made.text)


async def test_enter_opens_a_repository_and_its_variants(tmp_path: Path) -> None:
    async with opened(tmp_path) as made:
        await made.type("qwen")
        await made.until(lambda: made.picker.rows.count == 2)
        await made.pilot.press("enter")
        await made.until(lambda: isinstance(made.app.screen, RepoScreen))
        await made.until(lambda: "Q8_0" in made.text and "✓ fits" in made.text)
        for words in ("Q4_K_M", "BF16", "4.00 GiB", "15.0 GiB"):
            assert words in made.text
        facts = str(made.repo.query_one("#facts").render())
        assert "Qwen2ForCausalLM" in facts and "apache-2.0" in facts
        await made.until(lambda: "32,768" in made.repo.query_one(FitTable).render().plain)


async def test_the_chosen_variant_is_planned_for_first(tmp_path: Path) -> None:
    book = FakeFits()
    async with opened(tmp_path, fit_book=book) as made:
        await made.until(lambda: "starter" in book.asked)
        book.asked.clear()
        await made.variants(FILE)
        await made.until(lambda: len(book.asked) == 3)
        assert FILE in book.asked[:2], "two are planned for at once"
        book.asked.clear()
        book.hold.clear()
        await made.pilot.press("f5")
        await made.until(lambda: len(book.asked) == 2)
        await made.pilot.press("escape")
        await made.until(lambda: len(book.cancelled) == 2)


async def test_a_variant_is_fetched_and_loaded(tmp_path: Path) -> None:
    library = Library()
    transfers = FakeTransfers(library.there)
    transfers.hold = True
    async with opened(tmp_path, library, transfers=transfers) as made:
        await made.paste(f"https://huggingface.co/{QWEN}/blob/main/model.Q8_0.gguf")
        await made.until(lambda: isinstance(made.app.screen, RepoScreen))
        await made.until(lambda: made.chosen == FILE)
        library.there[FILE] = False
        await made.pilot.press("enter")
        await made.until(lambda: [line.name for line in transfers.lines] == [FILE])
        await made.until(lambda: made.app.screen is made.picker)
        await made.until(lambda: made.chosen == FILE)
        await made.until(lambda: "50 %" in made.text)
        transfers.hold = False
        await made.until(lambda: made.app.loads.info and made.app.loads.info.model == FILE)
        await made.until(lambda: f"◆ {FILE}" in made.text)


async def test_a_variant_is_only_fetched(tmp_path: Path) -> None:
    library = Library()
    transfers = FakeTransfers(library.there)
    transfers.hold = True
    async with opened(tmp_path, library, transfers=transfers) as made:
        await made.variants(QWEN)
        name = made.chosen
        await made.pilot.press("f7")
        await made.until(lambda: [line.name for line in transfers.lines] == [name])
        await made.until(lambda: "50" in made.about or "MiB" in made.about)
        assert made.app.loads.info is not None and made.app.loads.info.model == "starter"


async def test_names_are_gone_to_whether_the_search_finds_them_or_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as made:
        await made.paste(QWEN)
        await made.until(lambda: isinstance(made.app.screen, RepoScreen))
        await made.until(lambda: "Q8_0" in made.text)
        await made.pilot.press("escape")
        await made.until(lambda: made.app.screen is made.picker)
        await made.type("nobody/nothing")
        await made.until(lambda: "→ nobody/nothing" in made.text)
        await made.pilot.press("enter")
        await made.until(lambda: isinstance(made.app.screen, RepoScreen))
        await made.until(lambda: "there is no nobody/nothing" in made.text)
        assert "check the name" in made.text


async def test_a_gated_repository_says_what_to_do_and_fetches_nothing(tmp_path: Path) -> None:
    library = Library()
    library.offers[QWEN] = offer(
        QWEN, gated=True, may_fetch=False, refusal="it is gated", hint="accept its licence"
    )
    transfers, book = FakeTransfers(library.there), FakeFits()
    async with opened(tmp_path, library, book, transfers) as made:
        await made.variants(QWEN)
        assert "it is gated" in made.text and "accept its licence" in made.text
        assert "no access" in str(made.repo.query_one("#facts").render())
        await made.pilot.press("enter")
        await made.until(lambda: "it is gated" in made.notes)
        assert isinstance(made.app.screen, RepoScreen) and not transfers.lines
        assert not [name for name in book.asked if name.startswith(QWEN)]


async def test_a_renamed_repository_that_cannot_be_loaded_says_both(tmp_path: Path) -> None:
    library, book = Library(), FakeFits()
    library.offers["old/name"] = offer(QWEN)
    for each in offer(QWEN).variants:
        book.given[each.name] = refused(each.name)
    async with opened(tmp_path, library, book) as made:
        await made.variants("old/name")
        title = str(made.repo.query_one("#title").render())
        assert QWEN in title and "once old/name" in title
        await made.until(lambda: made.text.count("✗ cannot load") == 3)
        await made.until(lambda: "Mamba" in made.repo.query_one(FitTable).render().plain)


async def test_folders_are_looked_into_and_files_loaded(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    (shelf / "inner").mkdir(parents=True)
    (shelf / "inner" / "tiny.gguf").write_bytes(b"GGUF")
    library = Library()
    path = f"{shelf}/inner/tiny.gguf"
    async with opened(tmp_path, library) as made:
        made.picker.type(f"{shelf}/")
        await made.until(lambda: "inner/" in made.text)
        assert "starter" not in made.text and not library.asked
        await made.pilot.press("enter")
        await made.until(lambda: "tiny.gguf" in made.text)
        await made.pilot.press("tab")
        await made.until(lambda: made.picker.typed == path)
        library.there[path] = True
        await made.until(lambda: made.picker.rows.count == 1)
        await made.pilot.press("enter")
        await made.until(lambda: made.app.loads.info and made.app.loads.info.model == path)
        assert made.app.screen is made.app.chat_screen


async def test_a_path_that_is_dropped_in_quotes_is_loaded_and_not_searched_for(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "my tiny.gguf")
    Path(path).write_bytes(b"GGUF")
    library = Library()
    library.there[path] = True
    async with opened(tmp_path, library) as made:
        await made.paste(f"'{path}'")
        await made.until(lambda: made.picker.typed == path and made.picker.rows.count == 1)
        await made.pilot.press("enter")
        await made.until(lambda: made.app.loads.info and made.app.loads.info.model == path)
        assert not library.asked


async def test_downloads_are_stopped_taken_up_and_dropped(tmp_path: Path) -> None:
    library = Library()
    transfers = FakeTransfers(library.there)
    transfers.hold = True
    transfers.lines = [
        Transfer(
            name="a/b",
            phase="stalled",
            done_bytes=GIB,
            total_bytes=2 * GIB,
            message="the connection broke off",
            waits="tries again in 8 s",
        ),
        Transfer(name="c/d", phase="failed", message="c/d is gated", hint="accept its licence"),
    ]
    async with opened(tmp_path, library, transfers=transfers) as made:
        await made.until(lambda: "! a/b" in made.text and "✗ c/d" in made.text)
        assert "50 %" in made.text and "stalled, tries again in 8 s" in made.text
        made.picker.rows.go_to("a/b")
        await made.until(lambda: "the connection broke off" in made.about)
        await made.pilot.press("ctrl+home", "f9")
        await made.until(lambda: "‖ a/b" in made.text)
        await made.pilot.press("f9")
        await made.until(lambda: transfers.lines[-1].name == "a/b")
        await made.until(lambda: "‖ a/b" not in made.text)
        made.picker.rows.go_to("c/d")
        await made.until(lambda: "accept its licence" in made.about)
        await made.pilot.press("f8")
        await made.until(lambda: "c/d" not in made.text)
        made.picker.rows.go_to("a/b")
        await made.until(lambda: "50 %" in made.text)
        await made.pilot.press("f8")
        await made.until(lambda: isinstance(made.app.screen, Dialog))
        await made.pilot.press("d")
        await made.until(lambda: not transfers.lines)


async def test_the_mouse_chooses_first_and_takes_then(tmp_path: Path) -> None:
    async with opened(tmp_path) as made:
        lines = made.text.splitlines()
        at = next(row for row, line in enumerate(lines) if "other" in line)
        await made.pilot.click(PickerList, offset=(8, at))
        await made.until(lambda: made.chosen == "other")
        assert made.app.loads.info is not None and made.app.loads.info.model == "starter"
        await made.pilot.click(PickerList, offset=(8, 0))
        assert made.chosen == "other"
        await made.pilot.click(PickerList, offset=(8, at))
        await made.until(lambda: made.app.loads.info and made.app.loads.info.model == "other")


async def test_figures_stand_beside_a_wide_list_and_are_a_line_below_a_narrow_one(
    tmp_path: Path,
) -> None:
    book = FakeFits()
    book.given["starter"] = fits("starter", measured=frozenset({"weight_bytes"}))
    async with opened(tmp_path, fit_book=book, size=(180, 40)) as made:
        await made.until(lambda: "2.00 GiB*" in made.picker.query_one(FitTable).render().plain)
        side = made.picker.query_one("#side").region
        assert side.x > made.picker.rows.region.right - 1
        await made.pilot.resize_terminal(80, 24)
        await made.until(lambda: not made.picker.shows_table)
        await made.until(lambda: "✓ fits as int4" in made.about)
        await made.pilot.press("f6")
        await made.until(lambda: made.picker.shows_table)
        await made.until(lambda: made.picker.query_one(FitTable).region.height > 8)
        assert made.picker.rows.region.height > 2


async def test_the_palette_has_what_the_picker_can_do(tmp_path: Path) -> None:
    async with opened(tmp_path) as made:
        titles = {each.title for each in made.app.get_system_commands(made.picker)}
        wanted = {"Variants", "What fits", "Only fetch", "Delete or drop", "Stop or go on"}
        assert wanted | {"Sort by likes", "Sort by trending", "Ask again"} <= titles
        screen = await made.variants()
        titles = {each.title for each in made.app.get_system_commands(screen)}
        assert {"Fetch and load", "Only fetch", "What fits"} <= titles
