"""Presets: three built in, the user's own in a file that may hold anything."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from quantchat.errors import SettingsError
from quantchat.settings.model import Settings
from quantchat.settings.presets import (
    BUILT_IN,
    checked_sampling,
    drop,
    keep_prompt,
    keep_sampling,
    load_presets,
    preset_of,
    with_own,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "presets.toml"


def test_built_in_presets_are_within_the_bounds_of_the_settings(path: Path) -> None:
    presets, warnings = load_presets(path)
    assert list(presets.sampling) == ["precise", "balanced", "creative"] and not warnings
    for name, values in BUILT_IN.items():
        assert checked_sampling(dict(values)) == values
        assert with_own(Settings(), values).temperature == values["temperature"]
        assert preset_of(presets, values) == name


def test_presets_and_prompts_are_kept_replaced_and_dropped(path: Path) -> None:
    path.write_text("mine = 1\n[other]\nx = 2\n")
    keep_sampling(path, "  my  own ", {"temperature": 0.3, "seed": 7})
    keep_prompt(path, "Tutor", "Ask\nback.")
    keep_prompt(path, "Tutor", 'Say """why""".\n')
    presets, warnings = load_presets(path)
    assert not warnings
    assert presets.sampling["my own"] == {"temperature": 0.3, "seed": 7}
    assert presets.prompts == {"Tutor": 'Say """why""".\n'}
    drop(path, "sampling", "my own")
    drop(path, "prompts", "Tutor")
    drop(path, "prompts", "never there")
    presets, _ = load_presets(path)
    assert presets.sampling == BUILT_IN and presets.prompts == {}
    table = tomllib.loads(path.read_text())
    assert (table["mine"], table["other"]) == (1, {"x": 2})


@pytest.mark.parametrize("name", ["", "  ", "x" * 41, "a\x1b[2J"])
def test_names_that_cannot_be_shown_are_refused(path: Path, name: str) -> None:
    with pytest.raises(SettingsError):
        keep_prompt(path, name, "text")
    assert not path.exists()


def test_a_built_in_preset_keeps_its_values(path: Path) -> None:
    with pytest.raises(SettingsError, match="built-in"):
        keep_sampling(path, "precise", {"temperature": 1.0})


@pytest.mark.parametrize(
    "values", [{"temperature": 9.0}, {"model": 1}, {"top_k": 0.5}, {"seed": True}]
)
def test_values_out_of_bounds_are_refused(path: Path, values: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        keep_sampling(path, "mine", values)
    assert not path.exists()


def test_what_cannot_be_used_is_left_out_with_a_word(path: Path) -> None:
    path.write_text(
        "[sampling]\nbad = 3\nhot = {temperature = 99}\nprecise = {temperature = 1.0}\n"
        "good = {top_k = 4}\n[prompts]\nnumber = 5\ngood = 'x'\n"
    )
    presets, warnings = load_presets(path)
    assert list(presets.sampling) == [*BUILT_IN, "good"] and presets.prompts == {"good": "x"}
    assert presets.sampling["precise"] == BUILT_IN["precise"]
    assert len(warnings) == 4


@pytest.mark.parametrize("text", ["no toml [", "sampling = 3\nprompts = [1]"])
def test_a_broken_file_leaves_the_built_in_ones_and_is_moved_aside(path: Path, text: str) -> None:
    path.write_text(text)
    presets, warnings = load_presets(path)
    assert presets.sampling == BUILT_IN and warnings
    keep_prompt(path, "new", "text")
    assert load_presets(path)[0].prompts == {"new": "text"}
    aside = list(path.parent.glob("presets.broken-*.toml"))
    assert [each.read_text() for each in aside] == ([text] if text[-1] == "[" else [])


def test_own_values_stand_over_the_settings_and_bad_ones_do_not() -> None:
    own = {"temperature": 0.0, "max_tokens": 99, "top_p": 7.0, "theme": 1, "seed": 3.5}
    settings = with_own(Settings(top_p=0.5), own)
    assert (settings.temperature, settings.max_tokens, settings.top_p) == (0.0, 99, 0.5)
    assert settings.seed == Settings().seed and settings.theme == Settings().theme
    assert with_own(Settings(), None) == Settings()
