"""How tokens look: by KL, by the change of their probability, where answers part, at the cursor.

Backgrounds blend with the theme; terminals of 16 colours get plain colours and attributes.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.color import Color
from textual.content import Content
from textual.style import Style

from quantchat.comparing.difference import KL_STEPS
from quantchat.tui.markup.palette import Palette

CHANGE_STEPS = (0.05, 0.2, 0.5)
"""Changes of a probability, either way."""
SHARES = (0.18, 0.36, 0.58, 0.85)
"""How much of the warning colour the steps take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inks:
    """Styles of tokens under one theme."""

    divergent: tuple[Style, ...]
    """By step of KL, the first for the least."""
    unlikelier: tuple[Style, ...]
    likelier: tuple[Style, ...]
    other_top: Style
    """Added where the likeliest tokens differ."""
    parting: Style
    """The first token that differs between two answers."""
    given: Style
    """Tokens that the answer was made to begin with."""
    cursor: Style
    far_cursor: Style
    """The cursor in the pane that is not chosen."""

    def of_kl(self, kl: float) -> Style | None:
        """None below the first step."""
        step = sum(kl >= each for each in KL_STEPS)
        return self.divergent[step - 1] if step else None

    def of_change(self, change: float) -> Style | None:
        """None where the probability stays about the same."""
        step = sum(abs(change) >= each for each in CHANGE_STEPS)
        if not step:
            return None
        return (self.likelier if change > 0 else self.unlikelier)[step - 1]


def inks_from(palette: Palette, *, coarse: bool) -> Inks:
    """Inks of a theme; `coarse` for terminals that cannot blend."""
    underlined = Style(underline=True)
    bad, good = _color(palette.error), _color(palette.success)
    paper = palette.base.background or Color(0, 0, 0)
    coarse = coarse or any(each.ansi is not None for each in (bad, good, paper))
    if coarse:
        steps = (palette.warning, palette.error, palette.error + Style(bold=True))
        divergent: tuple[Style, ...] = (
            palette.marker,
            palette.warning,
            palette.error,
            palette.error + Style(reverse=True),
        )
        likelier: tuple[Style, ...] = (
            palette.success,
            palette.success + Style(underline=True),
            palette.success + Style(bold=True, underline=True),
        )
        unlikelier: tuple[Style, ...] = steps
        far = Style(underline=True, bold=True)
    else:
        divergent = tuple(_on(paper, bad, share) for share in SHARES)
        unlikelier = tuple(_on(paper, bad, share) for share in SHARES[1:])
        likelier = tuple(_on(paper, good, share) for share in SHARES[1:])
        far = Style(background=paper.blend(_color(palette.base), 0.3))
    return Inks(
        divergent=divergent,
        unlikelier=unlikelier,
        likelier=likelier,
        other_top=underlined,
        parting=palette.warning + Style(reverse=True, bold=True),
        given=palette.muted,
        cursor=palette.base + Style(reverse=True, bold=True),
        far_cursor=far,
    )


def legend(inks: Inks, palette: Palette, *, by_change: bool) -> Content:
    """What the inks mean, in one line."""
    muted = palette.muted
    parts: list[Content] = []
    if by_change:
        parts.append(Content.styled("change of p ", muted))
        for ink, step in zip(reversed(inks.unlikelier), reversed(CHANGE_STEPS), strict=True):
            parts.append(Content.styled(f" −{step:g} ", ink))
        parts.append(Content.styled(" 0 ", muted))
        for ink, step in zip(inks.likelier, CHANGE_STEPS, strict=True):
            parts.append(Content.styled(f" +{step:g} ", ink))
    else:
        parts.append(Content.styled("KL ", muted))
        for ink, step in zip(inks.divergent, KL_STEPS, strict=True):
            parts.append(Content.styled(f" {step:g} ", ink))
    parts += [Content("  "), Content.styled("other top", muted + inks.other_top)]
    return Content.assemble(*parts)


def _color(style: Style) -> Color:
    return style.foreground or Color(224, 224, 224)


def _on(paper: Color, ink: Color, share: float) -> Style:
    color = paper.blend(ink, share)
    return Style(foreground=color.get_contrast_text(1.0), background=color)
