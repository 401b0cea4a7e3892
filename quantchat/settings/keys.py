"""The user's own keys: a table [keys] in the settings file, binding id -> keys.

Owns what may stand in the table and how keys are spelled. Which bindings there are, and which
keys clash, belongs to `tui.keymap`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path

from quantchat.errors import SettingsError
from quantchat.settings.toml_file import read_table

TABLE = "keys"
LIMIT = 500
"""Most entries that are read."""
MODIFIERS = ("ctrl", "alt", "shift", "super", "hyper", "meta")
EDITING = ("escape", "enter", "tab", "space", "backspace", "delete", "insert")
MOVING = ("home", "end", "pageup", "pagedown", "up", "down", "left", "right")
NAMED = frozenset((*EDITING, *MOVING, *(f"f{number}" for number in range(1, 25))))
SHORT = {
    "esc": "escape",
    "return": "enter",
    "pgup": "pageup",
    "pgdn": "pagedown",
    "page_up": "pageup",
    "page_down": "pagedown",
    "del": "delete",
    "ins": "insert",
    "control": "ctrl",
    "option": "alt",
}
"""Other spellings."""
SAME_IN_TERMINALS = {"ctrl+i": "tab", "ctrl+m": "enter", "ctrl+left_square_bracket": "escape"}
"""Keys that a terminal sends as another one."""
PUNCTUATION = {
    "hyphen_minus": "minus",
    "plus_sign": "plus",
    "solidus": "slash",
    "low_line": "underscore",
    "commercial_at": "at",
    "reverse_solidus": "backslash",
}
"""Unicode's names where the terminal library has its own."""


def load_keys(path: Path) -> tuple[dict[str, str], list[str]]:
    """Binding id -> keys with commas between, and warnings for people; never fails."""
    try:
        table = read_table(path).get(TABLE, {})
    except SettingsError:
        # The settings were read from the same file and said so.
        return {}, []
    if not isinstance(table, Mapping):
        return {}, [f"{path.name}: [{TABLE}] is not a table"]
    keys: dict[str, str] = {}
    warnings: list[str] = []
    entries = _flat(table)
    if len(entries) > LIMIT:
        warnings.append(f"{path.name}: [{TABLE}] has more than {LIMIT} entries")
    for name, value in entries[:LIMIT]:
        try:
            keys[name] = parse_keys(value)
        except ValueError as error:
            warnings.append(f"{path.name}: key of {name[:60]!r}: {error}; left as it is")
    return keys, warnings


def parse_keys(value: object) -> str:
    """One key, several in a list or with commas, in the terminal library's spelling."""
    given = value if isinstance(value, list) else [value]
    words = [word for word in given if isinstance(word, str) and word]
    if not words or len(words) != len(given):
        raise ValueError("a key such as 'ctrl+y' is wanted")
    texts = [part for word in words for part in (word.split(",") if len(word) > 1 else [word])]
    return ",".join(_key(text.strip() or text) for text in texts)


def _key(text: str) -> str:
    if len(text) > 40:
        raise ValueError("too long for a key")
    if len(text) == 2 and text[0] == "^":
        text = f"ctrl+{text[1]}"
    *before, last = text.split("+") if len(text) > 1 and not text.endswith("++") else [text]
    if text.endswith("++"):
        before, last = text[:-2].split("+"), "+"
    modifiers = [SHORT.get(word.strip().lower(), word.strip().lower()) for word in before]
    for word in modifiers:
        if word not in MODIFIERS:
            raise ValueError(f"{word[:20]!r} is no modifier; they are {', '.join(MODIFIERS)}")
    key = last if len(last) == 1 else SHORT.get(last.strip().lower(), last.strip().lower())
    if len(key) == 1:
        key = _character(key, lower="ctrl" in modifiers)
    elif key not in NAMED:
        raise ValueError(f"{last[:20]!r} is no key")
    whole = "+".join([*modifiers, key])
    if whole in SAME_IN_TERMINALS:
        raise ValueError(f"terminals send {SAME_IN_TERMINALS[whole]} for {whole}")
    return whole


def _character(character: str, *, lower: bool) -> str:
    if not character.isprintable():
        raise ValueError(f"{character!r} is no key")
    if character.isalnum():
        return character.lower() if lower else character
    if character == " ":
        return "space"
    name = unicodedata.name(character, "").lower().replace("-", "_").replace(" ", "_")
    if not name:
        raise ValueError(f"{character!r} is no key")
    return PUNCTUATION.get(name, name)


def _flat(table: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    """Nested tables as dotted names."""
    entries: list[tuple[str, object]] = []
    for name, value in table.items():
        whole = f"{prefix}{name}"
        if isinstance(value, Mapping) and prefix.count(".") < 3:
            entries += _flat(value, f"{whole}.")
        else:
            entries.append((whole, value))
    return entries
