"""Theme files to Textual themes: ours, and the user's own.

A file that cannot be used is named with its reason; it never stops the app.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from textual.color import Color, ColorParseError
from textual.theme import Theme

COLOURS = (
    "primary",
    "secondary",
    "accent",
    "success",
    "warning",
    "error",
    "foreground",
    "background",
    "surface",
    "panel",
)
FILE_LIMIT_BYTES = 65_536
TITLE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,40}")
NAME = re.compile(r"[a-z][a-z0-9-]{0,60}")
SHARE = re.compile(r"(100|\d{1,2})%")
STYLE_WORDS = frozenset(("none", "bold", "dim", "italic", "underline", "reverse", "strike", "not"))
TERMINAL_GROUNDS = {"ansi-background": "ansi_black", "ansi-foreground": "ansi_white"}
"""What Textual asks of every theme in the terminal's own colours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenTheme:
    """A theme file that was left out."""

    path: Path
    reason: str


def own_themes() -> list[Theme]:
    """The themes that come with quantchat."""
    folder = files("quantchat.themes")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return [theme_from(tomllib.loads((folder / name).read_text("utf-8"))) for name in names]


def user_themes(folder: Path) -> tuple[list[Theme], list[BrokenTheme]]:
    """The themes in a folder, and the files that could not be used."""
    loaded: list[Theme] = []
    broken: list[BrokenTheme] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            if path.exists() and not path.is_file():
                raise ValueError("not a plain file")
            if path.stat().st_size > FILE_LIMIT_BYTES:
                raise ValueError(f"larger than {FILE_LIMIT_BYTES} bytes")
            loaded.append(theme_from(tomllib.loads(path.read_text("utf-8")), name=path.stem))
        except (OSError, ValueError, RecursionError) as error:
            broken.append(BrokenTheme(path=path, reason=str(error)))
    return loaded, broken


def theme_from(table: Mapping[str, object], *, name: str = "") -> Theme:
    """A theme out of a parsed file; raises ValueError naming the key that is off."""
    title = table.get("name", name)
    if not isinstance(title, str) or not TITLE.fullmatch(title):
        raise ValueError("name: a word of letters, digits, - and _ is wanted")
    known = {"name", "dark", "ansi", "variables", *COLOURS}
    unknown = sorted(set(table) - known)
    if unknown:
        raise ValueError(f"{unknown[0]}: not known; the keys are {', '.join(sorted(known))}")
    if "primary" not in table:
        raise ValueError("primary: missing")
    colours = {key: _colour(key, table[key]) for key in COLOURS if key in table}
    dark = table.get("dark", True)
    if not isinstance(dark, bool):
        raise ValueError("dark: true or false is wanted")
    ansi = table.get("ansi", False)
    if not isinstance(ansi, bool):
        raise ValueError("ansi: true or false is wanted")
    variables = table.get("variables", {})
    if not isinstance(variables, Mapping):
        raise ValueError("variables: a table is wanted")
    for key, value in variables.items():
        _check_variable(key, value)
    grounds = TERMINAL_GROUNDS if ansi else {}
    return Theme(name=title, dark=dark, ansi=ansi, variables={**grounds, **variables}, **colours)  # type: ignore[arg-type]


def _check_variable(key: str, value: object) -> None:
    """A variable is a colour, part of one, or the style of a text: else the app's rules break."""
    where = f"variables.{key}"
    if not NAME.fullmatch(key):
        raise ValueError(f"{where[:60]}: not a name of a variable")
    if not isinstance(value, str):
        raise ValueError(f"{where}: text is wanted")
    if key.endswith("-style"):
        if not value.split() or set(value.split()) - STYLE_WORDS:
            raise ValueError(
                f"{where}: {value[:40]!r} is not made of {', '.join(sorted(STYLE_WORDS))}"
            )
        return
    colour, _, share = value.partition(" ")
    if share and not SHARE.fullmatch(share):
        raise ValueError(f"{where}: {value[:40]!r} is not a colour")
    _colour(where, colour)


def _colour(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key}: a colour such as '#7aa2f7' is wanted")
    try:
        Color.parse(value)
    except ColorParseError as error:
        raise ValueError(f"{key}: {value[:40]!r} is not a colour") from error
    return value
