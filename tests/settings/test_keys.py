"""The user's own keys in the settings file: how they are spelled, and what is said of bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.keys import _character_to_key

from quantchat.settings.file import load_settings, save_settings
from quantchat.settings.keys import LIMIT, load_keys, parse_keys
from quantchat.settings.model import Settings


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        *(
            ("ctrl+y", "ctrl+y"),
            ("^Y", "ctrl+y"),
            (" Ctrl+Y ", "ctrl+y"),
            ("Alt+PgUp", "alt+pageup"),
        ),
        *(("f9, alt+m", "f9,alt+m"), (["f9", "alt+m"], "f9,alt+m"), ("?", "question_mark")),
        *((",", "comma"), ("ctrl++", "ctrl+plus"), ("Esc", "escape"), ("R", "R"), ("é", "é")),
        *((" ", "space"), ("shift+f24", "shift+f24")),
    ],
)
def test_keys_are_written_as_people_write_them(given: object, keys: str) -> None:
    assert parse_keys(given) == keys


@pytest.mark.parametrize(
    ("given", "said"),
    [
        *(("blub", "'blub' is no key"), ("foo+x", "'foo' is no modifier"), ("", "is wanted")),
        *((7, "is wanted"), ([], "is wanted"), (["f9", 3], "is wanted"), ("x" * 900, "too long")),
        *(("ctrl+i", "terminals send tab"), ("ctrl+m", "send enter"), ("\x1b", "no key")),
        *(("f25", "no key"), ("ctrl+", "no key")),
    ],
)
def test_what_is_no_key_is_said(given: object, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("'", ".")):
        parse_keys(given)


@pytest.mark.parametrize("character", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
def test_punctuation_is_called_as_the_terminal_library_calls_it(character: str) -> None:
    assert parse_keys([character]) == _character_to_key(character)


def test_the_table_is_read_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(
        'top_k = 7\n[keys]\n"chat.new" = "^y"\n[keys.app]\nquit = ["ctrl+q", "f10"]\nbad = 3\n'
    )
    settings, warnings = load_settings(path)
    assert settings.top_k == 7 and not warnings, "the table is no unknown setting"
    keys, warnings = load_keys(path)
    assert keys == {"chat.new": "ctrl+y", "app.quit": "ctrl+q,f10"}
    assert warnings == [
        "settings.toml: key of 'app.bad': a key such as 'ctrl+y' is wanted; left as it is"
    ]
    save_settings(settings.with_value("top_k", 8), path)
    assert load_keys(path)[0] == keys


def test_tables_that_are_none_or_too_long(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    assert load_keys(path) == ({}, [])
    path.write_text("keys = 3\n")
    assert load_keys(path) == ({}, ["settings.toml: [keys] is not a table"])
    path.write_text("keys = = 3\n")
    assert load_keys(path) == ({}, []), "the settings say so"
    path.write_text("[keys]\n" + "".join(f'a.b{at} = "f9"\n' for at in range(LIMIT + 5)))
    keys, warnings = load_keys(path)
    assert len(keys) == LIMIT and "more than" in warnings[0]
    path.write_text("[keys]\na" + ".a" * 40 + ' = "f9"\n')
    assert load_keys(path)[1]
    assert load_settings(path)[0] == Settings()
