"""One turn of a conversation as the transcript draws it: a label, the text, a line of figures.

Owns the look of a turn and its drawn lines at the current width. Does not own scrolling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from textual.content import Content
from textual.style import Style

from quantchat.tui.markup.answer import CopyLabel, GrowingText, text_lines
from quantchat.tui.markup.layout import BLANK
from quantchat.tui.markup.palette import Palette

State: TypeAlias = Literal["waiting", "streaming", "done", "stopped", "failed"]
WAITING = "…"
ACTION = "quantchat_action"
"""Key of the meta data that names the action of a clickable text."""


@dataclass(slots=True, kw_only=True)
class Turn:
    """What is known of a turn; the transcript redraws it when it is told that it changed."""

    key: int
    role: Literal["user", "assistant", "notice"]
    text: str
    label: str = ""
    figures: str = ""
    """Tokens, speed, why it ended; shown below an answer."""
    state: State = "done"
    version: int = 1
    versions: int = 1


class DrawnTurn:
    """A turn's lines at one width; streaming appends, everything else draws anew."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.lines: list[Content] = []
        self.fixed = 0
        """Lines from the top that the next append cannot change."""
        self._growing: GrowingText | None = None

    def draw(self, width: int, palette: Palette) -> None:
        """All lines of the turn, at most `width` cells each."""
        turn = self.turn
        if turn.role == "user":
            self.lines = _user_lines(turn, width, palette)
        elif turn.role == "notice":
            text = Content.styled(turn.text, palette.muted)
            self.lines = [_indent(line, "· ") for line in text.wrap(max(8, width - 4))]
        elif turn.state == "streaming":
            self._growing = GrowingText(width - 2, palette, _copy_label(turn, palette))
            self._growing.append(turn.text)
            self.lines = [_head(turn, width, palette)]
            self._settle(palette)
            return
        else:
            body = text_lines(turn.text, width - 2, palette, _copy_label(turn, palette))
            self.lines = [_head(turn, width, palette), *(_indent(line) for line in body)]
            if turn.state == "waiting" and not body:
                self.lines.append(_indent(Content.styled(WAITING, palette.muted)))
            if turn.figures:
                style = palette.error if turn.state == "failed" else palette.muted
                figures = Content.styled(turn.figures, style)
                self.lines += [_indent(line) for line in figures.wrap(max(8, width - 2))]
        self.lines.append(BLANK)
        self._growing = None
        self.fixed = len(self.lines)

    def append(self, text: str, palette: Palette) -> int:
        """Take streamed text; the index of the first line that changed."""
        self.turn.text += text
        growing = self._growing
        assert growing is not None
        first = self.fixed
        growing.append(text)
        self._settle(palette)
        return first

    def _settle(self, palette: Palette) -> None:
        growing = self._growing
        assert growing is not None
        del self.lines[max(1, self.fixed) :]
        settled = growing.settled_lines
        self.lines += [_indent(line) for line in settled[len(self.lines) - 1 :]]
        self.fixed = len(self.lines)
        tail = growing.tail_lines() or [Content.styled(WAITING, palette.muted)]
        self.lines += [_indent(line) for line in tail]
        self.lines.append(BLANK)


def _indent(line: Content, prefix: str = "  ") -> Content:
    return Content(prefix) + line


def click(text: str, action: str, style: Style) -> Content:
    """Text that runs an action when it is clicked; not a link, so it keeps its own style."""
    return Content.styled(text, style + Style.from_meta({ACTION: action}))


def _copy_label(turn: Turn, palette: Palette) -> CopyLabel:
    def label(index: int) -> Content:
        return click(" copy ", f"screen.copy_code({turn.key}, {index})", palette.marker)

    return label


def _head(turn: Turn, width: int, palette: Palette) -> Content:
    parts = [Content.styled("◆ ", palette.accent), Content.styled(turn.label, palette.muted)]
    if turn.versions > 1:
        parts += [
            Content("  "),
            click("‹ ", f"screen.version({turn.key}, -1)", palette.marker),
            Content.styled(f"{turn.version}/{turn.versions}", palette.muted),
            click(" ›", f"screen.version({turn.key}, 1)", palette.marker),
        ]
    head = Content.assemble(*parts)
    if turn.state in ("done", "stopped", "failed") and head.cell_length + 8 < width:
        copy = click("copy", f"screen.copy_turn({turn.key})", palette.faint)
        head = Content.assemble(head, " " * (width - head.cell_length - 4), copy)
    return head.truncate(width)


def _user_lines(turn: Turn, width: int, palette: Palette) -> list[Content]:
    bar = Content.styled("▌ ", palette.primary)
    lines = []
    for line in Content(turn.text).wrap(max(8, width - 4)) or [BLANK]:
        pad = max(0, width - 2 - line.cell_length)
        lines.append(Content.assemble(bar, line, " " * pad).stylize_before(palette.user))
    return lines
