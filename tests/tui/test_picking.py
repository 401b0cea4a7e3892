"""What the model picker lists and says, without a screen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from picker_support import GIB, fits, refused, repo

from quantchat.tui.control.fits import Fits
from quantchat.tui.control.fitting import NoFits
from quantchat.tui.control.hub_finds import KNOWN_MAX, HubFinds
from quantchat.tui.control.library import ModelRow, ShelfPick
from quantchat.tui.control.model_paths import found_paths, is_path, pasted_path
from quantchat.tui.control.picking import Section, Shelves
from quantchat.tui.control.transfers import Transfer
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.widgets.fit_table import CELLS, table_lines
from quantchat.tui.widgets.fit_words import one_line, overall, short_verdict

PALETTE = palette_from({})


def model(name: str, *, on_disk: bool = False, note: str = "") -> ModelRow:
    return ModelRow(name=name, title=name.title(), size_bytes=GIB, on_disk=on_disk, note=note)


def names(sections: list[Section]) -> dict[str, list[str]]:
    return {section.kind: [entry.name for entry in section.entries] for section in sections}


ROWS = [model("here", on_disk=True), model("best"), model("rest", note="thinks aloud")]
PICKS = [ShelfPick(name="best", scheme="int4", memory="8 GiB", best=True)]


def test_the_first_page_is_disk_shelf_catalog() -> None:
    found = names(Shelves(ROWS, PICKS).sections("", []))
    assert found == {"disk": ["here"], "shelf": ["best"], "catalog": ["rest"]}


def test_what_is_on_its_way_stands_on_top_and_nowhere_else() -> None:
    lines = [Transfer(name="rest", phase="running"), Transfer(name="a/b", phase="failed")]
    found = names(Shelves(ROWS, PICKS).sections("", lines))
    assert found == {"transfers": ["rest", "a/b"], "disk": ["here"], "shelf": ["best"]}
    assert next(iter(found)) == "transfers"


def test_all_words_are_looked_for_in_names_and_notes() -> None:
    shelves = Shelves(ROWS, PICKS)
    assert names(shelves.sections("ALOUD re", [])) == {"catalog": ["rest"]}
    assert shelves.sections("nothing", []) == []


def test_a_recommended_model_that_is_on_disk_stands_there_alone() -> None:
    rows = [model("best", on_disk=True)]
    assert names(Shelves(rows, PICKS).sections("", [])) == {"disk": ["best"]}


def test_known_repositories_answer_before_the_hub_does() -> None:
    finds = HubFinds()
    finds.take("qwen", "downloads", [repo("a/qwen-1", downloads=1), repo("b/qwen-2", downloads=2)])
    assert [row.name for row in finds.rows("qwen", "downloads")] == ["a/qwen-1", "b/qwen-2"]
    assert [row.name for row in finds.rows("qwen-", "downloads")] == ["b/qwen-2", "a/qwen-1"]
    assert [row.name for row in finds.rows("qwen 1", "likes")] == ["a/qwen-1"]
    assert finds.rows("llama", "downloads") == [] and finds.rows("", "downloads") == []


def test_the_pool_is_bounded_and_keeps_the_latest() -> None:
    finds = HubFinds()
    finds.take("x", "likes", [repo(f"x/{at}") for at in range(KNOWN_MAX)])
    finds.take("y", "likes", [repo("y/new")])
    assert len(finds._known) == KNOWN_MAX
    assert [row.name for row in finds.rows("new", "likes")] == ["y/new"]
    assert "x/0" not in finds._known


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/x", True),
        ("./x", True),
        ("~", True),
        ("..", True),
        ("a/b", False),
        ("https://x/y", False),
    ],
)
def test_what_is_a_path(text: str, path: bool) -> None:
    assert is_path(text) is path


def test_paths_offer_models_then_folders(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "fine").mkdir()
    (tmp_path / "fine" / "config.json").write_text("{}")
    (tmp_path / "file.gguf").write_bytes(b"GGUF")
    (tmp_path / "file.txt").write_text("no")
    (tmp_path / ".hidden").mkdir()
    kinds = [(row.name, row.kind) for row in found_paths(f"{tmp_path}/")]
    assert kinds == [("file.gguf", "gguf"), ("fine", "model"), ("folder/", "folder")]
    assert [row.path for row in found_paths(f"{tmp_path}/FO")] == [f"{tmp_path}/folder/"]
    assert [row.name for row in found_paths(f"{tmp_path}/.h")] == [".hidden/"]
    assert found_paths(f"{tmp_path}/nothing/at/all") == [] and found_paths("/\0") == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("'/a/my models/b.gguf'", "/a/my models/b.gguf"),
        ('"~/my models/"', "~/my models/"),
        ('"C:\\my models\\b.gguf"', "C:\\my models\\b.gguf"),
        ("file:///a/my%20models/b.gguf", "/a/my models/b.gguf"),
        ("/a/my\\ models/\\(b\\).gguf", "/a/my models/(b).gguf"),
        ("/a/my models/b.gguf", "/a/my models/b.gguf"),
        ("owner/name", "owner/name"),
        ('"owner name"', '"owner name"'),
        ("'", "'"),
        ("", ""),
    ],
)
def test_a_dropped_path_is_taken_as_it_is_meant(text: str, path: str) -> None:
    assert pasted_path(text) == path


def test_verdicts_are_words_and_signs_as_well_as_colours() -> None:
    good, large = fits("a"), fits("a", weight_bytes=40 * GIB)
    assert short_verdict(good) == ("✓ fits 16k", "fits")
    assert short_verdict(large) == ("✗ too large", "too_large")
    assert short_verdict(refused("a")) == ("✗ cannot load", "too_large")
    assert short_verdict(NoFits(message="offline")) == ("? not known", None)
    assert short_verdict(None) == ("", None)


def test_a_model_with_little_context_is_tight() -> None:
    assert overall(fits("a", weight_bytes=4 * GIB)) == "tight"
    assert overall(fits("a", weight_bytes=2 * GIB)) == "fits"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (fits("a"), ["int4", "16,384", "~40.0 tok/s"]),
        (fits("a", weight_bytes=40 * GIB), ["too large", "needs 40", "free 6.00 GiB"]),
        (fits("a", measured=frozenset({"tok_per_s"})), [", 40.0 tok/s"]),
        (refused("a"), ["cannot be loaded", "Mamba"]),
        (NoFits(message="[red]off[/red]"), ["[red]off[/red]"]),
        (None, ["working out"]),
    ],
)
def test_a_line_says_what_the_table_would(found: Fits | NoFits | None, words: list[str]) -> None:
    text = one_line(found, PALETTE).plain
    assert all(word in text for word in words), text


def table(found: Fits | NoFits | None, width: int = 100) -> str:
    return "\n".join(line.plain for line in table_lines(found, "waiting", width, PALETTE))


def test_the_table_has_every_figure_of_every_context() -> None:
    lines = table(fits("a")).splitlines()
    row = next(line for line in lines if line.lstrip().startswith("8,192"))
    assert row.split() == (
        ["8,192", "2.00", "GiB", "1.00", "GiB", "256", "MiB", "2.50", "GiB", "~40.0", "✓", "fits"]
    )
    assert any("free now  6.00 GiB of 8.00 GiB on Test card" in line for line in lines)
    assert any("longest context that fits  16,384 tokens" in line for line in lines)
    assert sum("✗ too large" in line for line in lines) == 3
    assert max(map(len, lines)) <= CELLS


def test_measured_figures_are_marked_and_the_mark_is_explained() -> None:
    measured = frozenset({"weight_bytes", "tok_per_s"})
    text = table(fits("a", measured=measured))
    row = next(line for line in text.splitlines() if line.lstrip().startswith("4,096"))
    assert "2.00 GiB*" in row and "40.0*" in row and "512 MiB " in row
    assert "* measured here" in text
    assert "measured" not in table(fits("a"))


SAID: Mapping[str, Fits | NoFits] = {
    "✗ Cannot be loaded: MambaForCausalLM": refused("a"),
    "choose a Llama": refused("a"),
    "What fits is not known: offline": NoFits(message="offline", hint="check the cable"),
    "check the cable": NoFits(message="offline", hint="check the cable"),
    "Re-encoded: Q5_K to int8": fits("a", reencoded="Q5_K to int8"),
}


@pytest.mark.parametrize("words", SAID)
def test_what_stands_in_place_of_the_table(words: str) -> None:
    assert words in table(SAID[words])
    assert table(None) == "waiting"
