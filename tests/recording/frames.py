"""What a screen shows, as rows of styled text: captured from a running app, compared, kept.

Owns the translation of Textual's strips. Time and drawing are `camera`'s and `film`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from rich.cells import cell_len
from rich.color import Color
from rich.style import Style
from textual._context import visible_screen_stack
from textual.app import App

DIM_SHARE = 0.5
"""Of the background in dimmed text."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a run is drawn; colours as #rrggbb."""

    ink: str
    ground: str
    bold: bool = False
    italic: bool = False
    underline: bool = False
    strike: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring cells of one look."""

    cell: int
    cells: int
    text: str
    look: Look


Row: TypeAlias = tuple[Run, ...]
Screen: TypeAlias = tuple[Row, ...]


def capture(app: App[Any], ink: str, ground: str) -> Screen:
    """The app's front screen with what shines through; `ink` and `ground` stand for no colour."""
    token = visible_screen_stack.set(app._background_screens)
    try:
        strips = app.screen._compositor.render_strips()
    finally:
        visible_screen_stack.reset(token)
    return tuple(
        row_of([(text, style) for text, style, control in strip if not control], ink, ground)
        for strip in strips
    )


def row_of(segments: list[tuple[str, Style | None]], ink: str, ground: str) -> Row:
    """Runs of a line; neighbours of one look are joined."""
    runs: list[Run] = []
    cell = 0
    for text, style in segments:
        look = look_of(style or Style.null(), ink, ground)
        cells = cell_len(text)
        if not cells:
            continue
        if runs and runs[-1].look == look:
            last = runs.pop()
            runs.append(Run(last.cell, last.cells + cells, last.text + text, look))
        else:
            runs.append(Run(cell, cells, text, look))
        cell += cells
    return tuple(runs)


def look_of(style: Style, ink: str, ground: str) -> Look:
    """Colours and attributes; reversed and dimmed ones are worked out."""
    front = _hex(style.color, ink)
    back = _hex(style.bgcolor, ground)
    if style.reverse:
        front, back = back, front
    if style.dim:
        front = mixed(front, back, DIM_SHARE)
    return Look(
        ink=front,
        ground=back,
        bold=bool(style.bold),
        italic=bool(style.italic),
        underline=bool(style.underline),
        strike=bool(style.strike),
    )


def mixed(front: str, back: str, share: float) -> str:
    """So much of the second colour in the first."""
    pairs = zip(_parts(front), _parts(back), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _parts(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _hex(color: Color | None, fallback: str) -> str:
    if color is None or color.is_default:
        return fallback
    return color.get_truecolor().hex
