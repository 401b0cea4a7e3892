"""A screen as text that a person can read and compare: rows, a letter for each cell's style, a legend.

Owns the form of a picture and its file. Which screens there are belongs to `places`.
"""

from __future__ import annotations

import difflib
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.strip import Strip

LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits + "+*=/<>#@%&!?"
BASE = "."
"""The most frequent style."""
DIFF_LINES = 120
MARK = "-- "
"""Begins a heading in a file."""
FLAGS = ("bold", "dim", "italic", "underline", "strike", "reverse")
SEEN = ("underline", "strike", "reverse")
"""Without a character, too."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What is on the screen."""

    rows: tuple[str, ...]
    styles: tuple[str, ...]
    """A letter for each cell; trailing cells of the base style are left out."""
    legend: tuple[str, ...]
    """What each letter stands for."""


def strips_of(app: App[None]) -> list[Strip]:
    """The screen in front with what shows through it, not yet a picture."""
    return app.screen._compositor.render_strips()


def picture_of(strips: Sequence[Strip]) -> Picture:
    """Every cell of the screen."""
    rows = [
        [cell for part in strip if not part.control for cell in _cells(part)] for strip in strips
    ]
    counts = Counter(style for row in rows for _, style in row)
    base = counts.most_common(1)[0][0] if counts else ""
    letters = {base: BASE}
    for row in rows:
        for _, style in row:
            if style not in letters:
                letters[style] = LETTERS[min(len(letters) - 1, len(LETTERS) - 1)]
    return Picture(
        rows=tuple("".join(text for text, _ in row).rstrip() for row in rows),
        styles=tuple("".join(letters[style] for _, style in row).rstrip(BASE) for row in rows),
        legend=tuple(f"{letter} {style}" for style, letter in letters.items()),
    )


def _cells(segment: Segment) -> Iterator[tuple[str, str]]:
    """Text and style of each cell; the second cell of a wide character has no text."""
    words = _style_words(segment.style, blank=False)
    blank = _style_words(segment.style, blank=True)
    for character in segment.text:
        yield character, blank if character == " " else words
        for _ in range(cell_len(character) - 1):
            yield "", words


def _style_words(style: Style | None, *, blank: bool) -> str:
    """In a blank cell only what can be seen there."""
    if style is None:
        return "plain"
    flags = [name for name in FLAGS if getattr(style, name) and (not blank or name in SEEN)]
    color = style.color.name if style.color is not None else "default"
    ground = style.bgcolor.name if style.bgcolor is not None else "default"
    return " ".join([f"on {ground}"] if blank and not flags else [color, "on", ground, *flags])


def as_file(name: str, pictures: Mapping[str, Picture]) -> str:
    """One screen in several themes; what is the same in all of them stands once."""
    first, *others = pictures
    lines = [f"{name}, themes {' and '.join(pictures)}", "", *pictures[first].rows]
    for theme in others:
        if pictures[theme].rows != pictures[first].rows:
            lines += ["", f"{MARK}text in {theme}", *pictures[theme].rows]
    lines += ["", f"{MARK}styles in {first}", *pictures[first].styles]
    lines += ["", f"{MARK}legend of {first}", *pictures[first].legend]
    for theme in others:
        if pictures[theme].styles != pictures[first].styles:
            lines += ["", f"{MARK}styles in {theme}", *pictures[theme].styles]
        lines += ["", f"{MARK}legend of {theme}", *pictures[theme].legend]
    return "\n".join(lines) + "\n"


def from_file(text: str) -> dict[str, Picture]:
    """The pictures of a file, by theme: what `as_file` wrote."""
    head, _, rest = text.partition("\n")
    themes = head.partition(", themes ")[2].split(" and ")
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    key, lines = ("text", themes[0]), list[str]()
    for line in [*rest.splitlines()[1:], "", f"{MARK}end of end"]:
        if line.startswith(MARK):
            found[key] = tuple(lines[:-1])
            what, _, theme = line.removeprefix(MARK).replace(" in ", " of ").partition(" of ")
            key, lines = (what, theme), []
        else:
            lines.append(line)

    def of(what: str, theme: str) -> tuple[str, ...]:
        return found.get((what, theme)) or found[what, themes[0]]

    return {
        theme: Picture(of("text", theme), of("styles", theme), of("legend", theme))
        for theme in themes
    }


def difference(kept: str, taken: str) -> str:
    """Lines that differ, with those around them."""
    lines = difflib.unified_diff(
        kept.splitlines(), taken.splitlines(), "as it was", "as it is", lineterm="", n=1
    )
    shown: Sequence[str] = list(lines)
    more = len(shown) - DIFF_LINES
    return "\n".join([*shown[:DIFF_LINES], *([f"… {more} lines more"] if more > 0 else [])])
