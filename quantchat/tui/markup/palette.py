"""The colours of text as one record, drawn from a theme's variables.

Owns which role gets which colour; the lines themselves belong to `layout`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from textual.color import Color, ColorParseError
from textual.style import Style


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Styles by role; every one is opaque, so that it can be drawn without blending."""

    base: Style
    """Text on the background; what a line without spans looks like."""
    muted: Style
    faint: Style
    """Rules, empty parts of bars."""
    strong: Style
    emphasis: Style
    strike: Style
    code: Style
    """Code within a sentence."""
    link: Style
    heading: Style
    marker: Style
    """Bullets and numbers of lists."""
    primary: Style
    accent: Style
    success: Style
    warning: Style
    error: Style
    block: Style
    """Background of a code block."""
    block_label: Style
    user: Style
    """Background of a user's turn."""
    selected: Style
    """Text that the mouse has selected."""
    keyword: Style
    string: Style
    number: Style
    comment: Style
    name: Style
    type_: Style


def palette_from(variables: Mapping[str, str]) -> Palette:
    """Roles from the variables of a theme (`App.theme_variables`)."""
    background = _color(variables, "background", Color(0, 0, 0))
    foreground = _color(variables, "foreground", Color(224, 224, 224))

    def solid(name: str, fallback: Color) -> Style:
        color = _color(variables, name, fallback)
        return Style(foreground=background + color if color.a < 1 else color)

    def mixed(share: float) -> Color:
        plain = background.ansi is None and foreground.ansi is None
        return background.blend(foreground, share) if plain else foreground

    surface = _color(variables, "surface", background)
    panel = _color(variables, "panel", surface)
    muted = Style(foreground=mixed(0.62))
    success = solid("text-success", foreground)
    primary = solid("text-primary", foreground)
    ink = primary.foreground
    if ink is None or ink.ansi is not None or background.ansi is not None:
        selected = Style(reverse=True)
    else:
        selected = Style(background=background.blend(ink, 0.4))
    return Palette(
        base=Style(foreground=foreground, background=background),
        muted=muted,
        faint=Style(foreground=mixed(0.28)),
        strong=Style(foreground=foreground, bold=True),
        emphasis=Style(italic=True),
        strike=Style(strike=True),
        code=solid("text-accent", foreground) + Style(background=surface),
        link=solid("text-primary", foreground) + Style(underline=True),
        heading=solid("text-primary", foreground) + Style(bold=True),
        marker=solid("text-primary", foreground),
        primary=primary,
        accent=solid("text-accent", foreground),
        success=success,
        warning=solid("text-warning", foreground),
        error=solid("text-error", foreground),
        block=Style(background=surface),
        block_label=muted + Style(background=panel),
        user=Style(background=surface),
        selected=selected,
        keyword=solid("text-accent", foreground),
        string=success,
        number=solid("text-warning", foreground),
        comment=muted + Style(italic=True),
        name=solid("text-primary", foreground),
        type_=solid("text-secondary", foreground) + Style(bold=True),
    )


def _color(variables: Mapping[str, str], name: str, fallback: Color) -> Color:
    value = variables.get(name)
    if value is None:
        return fallback
    try:
        return Color.parse(value)
    except ColorParseError:
        return fallback
