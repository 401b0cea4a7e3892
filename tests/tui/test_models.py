"""The model picker by keys, mouse and paste: search, variants, what fits, downloads."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from app_support import FakeLibrary, make_app, ready, wait_until
from picker_support import GIB, FakeFits, fits, offer, refused, repo
from textual.events import Paste
from textual.pilot import Pilot
from transfer_support import FakeTransfers

from quantchat.errors import Cancelled
from quantchat.hub.http import SourceError
from quantchat.hub.search import FoundRepo, Sort
from quantchat.settings.model import Settings
from quantchat.tui.app import QuantchatApp
from quantchat.tui.control.library import ShelfPick
from quantchat.tui.control.preferences import Preferences, scheme_for
from quantchat.tui.control.transfers import Transfer
from quantchat.tui.screens.dialog import Dialog
from quantchat.tui.screens.models import ModelsScreen
from quantchat.tui.screens.repo import RepoScreen
from quantchat.tui.widgets import picker_list
from quantchat.tui.widgets.fit_table import FitTable
from quantchat.tui.widgets.hub_line import HubLine
from quantchat.tui.widgets.picker_list import PickerList

QWEN = "Qwen/Qwen2.5-7B"
FILE = f"{QWEN}:model.Q8_0.gguf"


class Library(FakeLibrary):
    """Notes what is asked; a search can be held."""

    def __init__(self) -> None:
        super().__init__()
        self.found = [repo(QWEN, downloads=9), repo("b/qwen-small", downloads=5, likes=99)]
        self.offers = {QWEN: offer(QWEN)}
        self.asked: list[tuple[str, Sort]] = []
        self.cancelled: list[str] = []
        self.hold = threading.Event()
        self.hold.set()

    def search(self, query: str, sort: Sort, cancel: threading.Event) -> list[FoundRepo]:
        self.asked.append((query, sort))
        while not self.hold.wait(0.005):
            if cancel.is_set():
                self.cancelled.append(query)
                raise Cancelled("another question")
        return super().search(query, sort, cancel)


class Opened:
    """The picker of a running app."""

    def __init__(self, app: QuantchatApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def picker(self) -> ModelsScreen:
        return next(each for each in self.app.screen_stack if isinstance(each, ModelsScreen))

    @property
    def repo(self) -> RepoScreen:
        assert isinstance(self.app.screen, RepoScreen)
        return self.app.screen

    @property
    def text(self) -> str:
        found = self.app.screen.query(PickerList)
        return found.first().text_on_screen() if found and found.first().is_mounted else ""

    @property
    def chosen(self) -> str:
        """Name of what is under the cursor; "" for nothing."""
        found = self.app.screen.query(PickerList)
        entry = found.first().current if found else None
        return "" if entry is None else entry.name

    @property
    def about(self) -> str:
        return str(self.app.screen.query_one("#about").render())

    @property
    def notes(self) -> str:
        return "\n".join(each.message for each in self.app._notifications)

    async def until(self, reached: object) -> None:
        assert callable(reached)
        await wait_until(self.pilot, reached)

    async def type(self, text: str) -> None:
        """And until the hub answered."""
        self.picker.type(text)
        await self.until(lambda: self.picker.search.query == text)
        await self.until(lambda: self.picker.search.state == "found")

    async def paste(self, text: str) -> None:
        self.picker.query_one("#filter").post_message(Paste(text))

    async def variants(self, name: str = QWEN) -> RepoScreen:
        self.app.push_screen(RepoScreen(name), None)
        await self.until(lambda: isinstance(self.app.screen, RepoScreen))
        await self.until(lambda: self.app.screen.query(PickerList))
        await self.until(lambda: self.repo.rows.count)
        return self.repo


@asynccontextmanager
async def opened(
    folder: Path,
    library: FakeLibrary | None = None,
    fit_book: FakeFits | None = None,
    transfers: FakeTransfers | None = None,
    size: tuple[int, int] = (100, 32),
) -> AsyncIterator[Opened]:
    library = library or Library()
    app = make_app(folder, library=library, fits=fit_book, transfers=transfers)
    async with app.run_test(size=size) as pilot:
        await ready(pilot, app)
        await pilot.press("ctrl+o")
        made = Opened(app, pilot)
        await wait_until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await wait_until(pilot, lambda: made.picker.rows.count)
        yield made


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


async def test_downloads_are_stopped_taken_up_and_dropped(tmp_path: Path) -> None:
    library = Library()
    transfers = FakeTransfers(library.there)
    transfers.hold = True
    transfers.lines = [
        Transfer(name="a/b", phase="stalled", done_bytes=GIB, total_bytes=2 * GIB),
        Transfer(name="c/d", phase="failed", message="c/d is gated", hint="accept its licence"),
    ]
    async with opened(tmp_path, library, transfers=transfers) as made:
        await made.until(lambda: "! a/b" in made.text and "✗ c/d" in made.text)
        assert "50 %" in made.text and "stalled" in made.text
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
    drawn: list[object] = []
    plain = picker_list.row

    def counted(entry: object, *args: object, **kwargs: object) -> object:
        drawn.append(entry)
        return plain(entry, *args, **kwargs)  # type: ignore[arg-type]

    async with opened(tmp_path, library) as made:
        await made.type("qwen")
        await made.until(lambda: made.picker.rows.count == 5000)
        monkeypatch.setattr(picker_list, "row", counted)
        await made.pilot.press("minus")
        await made.until(lambda: made.picker.search.query == "qwen-" and drawn)
        await made.until(lambda: made.picker.search.state == "found")
        assert len(drawn) < 1000


async def test_the_palette_has_what_the_picker_can_do(tmp_path: Path) -> None:
    async with opened(tmp_path) as made:
        titles = {each.title for each in made.app.get_system_commands(made.picker)}
        wanted = {"Variants", "What fits", "Only fetch", "Delete or drop", "Stop or go on"}
        assert wanted | {"Sort by likes", "Sort by trending", "Ask again"} <= titles
        screen = await made.variants()
        titles = {each.title for each in made.app.get_system_commands(screen)}
        assert {"Fetch and load", "Only fetch", "What fits"} <= titles


async def test_a_recommended_model_comes_with_its_scheme(tmp_path: Path) -> None:
    library = Library()
    library.picks = [ShelfPick(name="other", scheme="int4", memory="8 GiB")]
    async with opened(tmp_path, library) as made:
        await made.until(lambda: "8 GiB, int4" in made.text)
        assert made.picker.rows.go_to("other")
        await made.until(lambda: "loads it in int4" in made.about)
        assert made.app.preferences.settings.scheme == "auto"
        await made.pilot.press("enter")
        await made.until(lambda: made.app.loads.info and made.app.loads.info.model == "other")
        assert made.app.loads.answering is not None
        assert made.app.loads.answering.scheme == "int4"
        assert made.app.preferences.settings.scheme == "int4"
        # Its line among the downloads went first, its line on disk came later.
        await made.until(lambda: made.chosen == "other" and "◆ other" in made.text)


@pytest.mark.parametrize(
    ("now", "scheme", "model", "would"),
    [
        ("starter", "auto", "qwen3-4b", "int8"),
        ("starter", "fp16", "qwen3-4b", "fp16"),
        ("starter", "fp16", "other", "fp16"),
        ("qwen3-4b", "int8", "starter", "auto"),
        ("qwen3-4b", "int8", "qwen2.5-1.5b", "int4"),
        ("qwen3-4b", "fp16", "starter", "fp16"),
        ("qwen3-4b", "fp16", "qwen3-4b", "fp16"),
    ],
)
def test_a_recommended_scheme_goes_with_its_model(
    now: str, scheme: str, model: str, would: str
) -> None:
    settings = Settings(model=now, scheme=scheme)
    assert scheme_for(settings, model) == would
    preferences = Preferences(settings, None)
    assert preferences.choose(model) == ""
    assert (preferences.settings.model, preferences.settings.scheme) == (model, would)
    assert scheme_for(settings, "qwen2.5-7b", recommended=True) == "int8"
    preferences.choose("other", "nf4")
    assert preferences.settings.scheme == "nf4"


async def test_the_first_start_names_the_model_for_this_machine(tmp_path: Path) -> None:
    library = FakeLibrary(on_disk=False)
    library.picks = [ShelfPick(name="other", scheme="int4", memory="8 GiB", best=True)]
    app = make_app(tmp_path, library=library)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: app.loads.state == "missing")
        await wait_until(pilot, lambda: "★ other suits this machine best" in welcome(app))
        assert "Enter" in welcome(app)


def welcome(app: QuantchatApp) -> str:
    """The middle of an empty conversation, as it was drawn last."""
    return app.chat_screen.transcript._empty.plain
