"""The lines of one turn: a head, the reasoning folded to a line, the text, files, figures.

Owns the look of a turn and its drawn lines at the current width. Does not own scrolling, nor what
is folded: that is given.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from pathlib import PurePath
from typing import TypeAlias

from textual.content import Content

from quantchat.reasoning import Parts, ReasoningStream, parts_of
from quantchat.store.records import Attachment
from quantchat.tui import figures
from quantchat.tui.markup.answer import CopyLabel, GrowingText, Pieces, text_lines
from quantchat.tui.markup.code import code_lines
from quantchat.tui.markup.layout import BLANK
from quantchat.tui.markup.palette import Palette
from quantchat.tui.widgets.turn import Turn, click

WAITING = "…"
PREFIX_CELLS = 2
"""Every line begins with so many cells that are no part of its text."""
THOUGHT_BAR = "┊ "
"""Then, before each line of reasoning."""
PREVIEW_CHARS = 65_536
PREVIEW_LINES = 200
"""Of an attachment that is unfolded."""

Fold: TypeAlias = tuple[int, str]
"""Key of a turn and what of it: "all", "thought", or "file" with its number."""


class DrawnTurn:
    """A turn's lines at one width; streaming appends, everything else draws anew."""

    def __init__(self, turn: Turn, flipped: Set[Fold] = frozenset()) -> None:
        self.turn = turn
        self.lines: list[Content] = []
        self.fixed = 0
        """Lines from the top that the next append cannot change."""
        self._flipped = flipped
        """Folds that are not as at first: reasoning and files unfolded, turns folded."""
        self._width = 0
        self._stream = ReasoningStream()
        self._thought: GrowingText | None = None
        self._answer: GrowingText | None = None
        self._above: list[Content] = []
        """While it streams: what stands above the part that grows."""
        self._settled = 0
        self._late = ""
        self._look: tuple[object, ...] = ()
        """What its lines show; empty while they grow."""
        self._streamed: tuple[int, Palette, Pieces] | None = None
        """Width, palette and pieces of what streamed."""

    def shows(self, width: int, palette: Palette) -> bool:
        """Whether its lines are as `draw` would make them."""
        return bool(self._look) and self._look == self._looks_like(width, palette)

    def draw(self, width: int, palette: Palette) -> None:
        """All lines of the turn, at most `width` cells each."""
        turn = self.turn
        self._width = width
        self._thought = self._answer = None
        self._look = ()
        if (turn.key, "all") in self._flipped:
            self.lines = [_folded(turn, width, palette)]
        elif turn.role == "user":
            self.lines = _user_lines(turn, width, palette, self._flipped)
        elif turn.role == "notice":
            text = Content.styled(turn.text, palette.muted)
            self.lines = [_indent(line, "· ") for line in text.wrap(max(8, width - 4))]
        elif turn.state == "streaming":
            self._begin(palette)
            return
        else:
            self.lines = self._whole(palette)
        self.lines.append(BLANK)
        self.fixed = len(self.lines)
        self._look = self._looks_like(width, palette)

    def append(self, text: str, palette: Palette) -> int:
        """Take streamed text; the index of the first line that changed."""
        turn = self.turn
        turn.text += text
        if self._answer is None:
            self.draw(self._width, palette)
            return 0
        window = self._late + text
        self._late = window[-16:]
        if "</think>" in window and self._thought is None and parts_of(turn.text).reasoning:
            self._begin(palette)
            return 0
        was_thinking, first = self._stream.thinking, self.fixed
        self._feed(text, palette)
        if was_thinking and not self._stream.thinking:
            first = min(first, 1)
        self._settle(palette)
        return first

    def _whole(self, palette: Palette) -> list[Content]:
        turn, width = self.turn, self._width
        parts = parts_of(turn.text)
        lines = [_head(turn, width, palette), *self._thought_lines(parts, palette)]
        known = self._pieces(palette)
        body = text_lines(parts.answer, width - 2, palette, _copy_label(turn, palette), known)
        self._streamed = None
        lines += [_indent(line) for line in body]
        if turn.state == "waiting" and not body:
            lines.append(_indent(Content.styled(WAITING, palette.muted)))
        if turn.figures:
            line = (
                Content.styled(turn.figures, palette.error)
                if turn.state == "failed"
                else click(turn.figures, f"screen.turn_meters({turn.key})", palette.muted)
            )
            lines += [_indent(each) for each in line.wrap(max(8, width - 2))]
        return lines

    def _thought_lines(self, parts: Parts, palette: Palette) -> list[Content]:
        """The line of the reasoning and, unfolded, the reasoning; nothing where there is none."""
        if not parts.reasoning:
            return []
        lines = [self._thought_head(palette, closed=parts.closed)]
        if self._unfolded("thought"):
            body = text_lines(parts.reasoning, self._width - 4, palette)
            lines += [_thought_line(line, palette) for line in body]
        return [*lines, BLANK] if parts.answer else lines

    def _thought_head(self, palette: Palette, *, closed: bool) -> Content:
        turn = self.turn
        opened = self._unfolded("thought")
        live = not closed and turn.state == "streaming"
        parts = ["thinking" if live else "reasoning" if closed else "reasoning, not finished"]
        if not (live and opened):
            if turn.thought_s >= 1:
                parts.append(f"{turn.thought_s:.0f} s")
            if turn.thought_tokens:
                parts.append(f"{figures.count(turn.thought_tokens)} tokens")
        text = f"{'▾' if opened else '▸'} {' · '.join(parts)}"
        return _indent(click(text, f"fold({turn.key}, 'thought')", palette.muted))

    def _looks_like(self, width: int, palette: Palette) -> tuple[object, ...]:
        folds = frozenset(fold for fold in self._flipped if fold[0] == self.turn.key)
        return (replace(self.turn), width, palette, folds)

    def _pieces(self, palette: Palette) -> Pieces | None:
        """Those drawn while it streamed, where it is drawn alike."""
        if self._streamed is None:
            return None
        width, colours, pieces = self._streamed
        return pieces if (width, colours) == (self._width, palette) else None

    def _unfolded(self, what: str) -> bool:
        return (self.turn.key, what) in self._flipped

    def _begin(self, palette: Palette) -> None:
        """Draw what has streamed so far, ready for more."""
        turn, width = self.turn, self._width
        self._stream, self._thought, self._late = ReasoningStream(), None, turn.text[-16:]
        self._streamed = (width, palette, {})
        label = _copy_label(turn, palette)
        self._answer = GrowingText(width - 2, palette, label, self._pieces(palette))
        self._above = [_head(turn, width, palette)]
        self.lines, self.fixed, self._settled = list(self._above), 1, 0
        parts = parts_of(turn.text)
        if parts.closed and parts.reasoning:
            self._thought = GrowingText(width - 4, palette)
            self._above += self._thought_lines(parts, palette)
            self._stream.feed("-")
            self._answer.append(parts.answer)
        else:
            self._feed(turn.text, palette)
        self._settle(palette)

    def _feed(self, text: str, palette: Palette) -> None:
        thought, answer = self._stream.feed(text)
        assert self._answer is not None
        if thought and self._thought is None and thought.strip():
            self._thought = GrowingText(self._width - 4, palette)
            thought = thought.lstrip()
        if self._thought is not None:
            self._thought.append(thought)
        if answer:
            if self._thought is not None and not self._stream.thinking and len(self._above) == 1:
                self._above += self._thought_lines(parts_of(self.turn.text), palette)
                del self.lines[1:]
                self.fixed = 1
            self._answer.append(answer)

    def _settle(self, palette: Palette) -> None:
        """Put the lines together: those that are settled are not touched again."""
        assert self._answer is not None
        thinking = len(self._above) == 1 and self._thought is not None
        if thinking:
            self._settle_thought(palette)
            return
        above = len(self._above)
        if self.fixed < above:
            self.lines = list(self._above)
            self.fixed = above
        del self.lines[self.fixed :]
        settled = self._answer.settled_lines
        self.lines += [_indent(line) for line in settled[self.fixed - above :]]
        self.fixed = len(self.lines)
        tail = self._answer.tail_lines()
        if not tail and not settled:
            tail = [Content.styled(WAITING, palette.muted)]
        self.lines += [_indent(line) for line in tail]
        self.lines.append(BLANK)

    def _settle_thought(self, palette: Palette) -> None:
        assert self._thought is not None
        opened = self._unfolded("thought")
        if self.fixed < 2 or not opened:
            head = self._thought_head(palette, closed=not self._stream.thinking)
            self.lines = [*self._above, head]
            self.fixed = 2 if opened else 1
        if opened:
            if not self._stream.thinking:
                self.lines[1] = self._thought_head(palette, closed=True)
            del self.lines[self.fixed :]
            settled = self._thought.settled_lines
            self.lines += [_thought_line(line, palette) for line in settled[self.fixed - 2 :]]
            self.fixed = len(self.lines)
            self.lines += [_thought_line(line, palette) for line in self._thought.tail_lines()]
        self.lines.append(BLANK)


def _indent(line: Content, prefix: str = "  ") -> Content:
    return Content(prefix) + line


def _thought_line(line: Content, palette: Palette) -> Content:
    bar = Content.styled(THOUGHT_BAR, palette.faint)
    return Content.assemble("  ", bar, line.stylize_before(palette.muted))


def _copy_label(turn: Turn, palette: Palette) -> CopyLabel:
    def label(index: int) -> Content:
        return click(" copy ", f"screen.copy_code({turn.key}, {index})", palette.marker)

    return label


def _versions(turn: Turn, palette: Palette) -> Content:
    if turn.versions < 2:
        return Content("")
    return Content.assemble(
        click("‹ ", f"screen.version({turn.key}, -1)", palette.marker),
        click(f"{turn.version}/{turn.versions}", f"screen.version({turn.key}, 1)", palette.muted),
        click(" ›", f"screen.version({turn.key}, 1)", palette.marker),
    )


def _offers(turn: Turn, palette: Palette) -> Content:
    """What can be done with a turn, to be clicked."""
    copy = click("copy", f"screen.copy_turn({turn.key})", palette.muted)
    if not turn.editable:
        return copy
    edit = click("edit", f"screen.edit_turn({turn.key})", palette.muted)
    return Content.assemble(edit, "  ", copy)


def _head(turn: Turn, width: int, palette: Palette) -> Content:
    mark = click("◆ ", f"fold({turn.key}, 'all')", palette.accent)
    head = Content.assemble(mark, Content.styled(turn.label, palette.muted))
    if turn.versions > 1:
        head = Content.assemble(head, "  ", _versions(turn, palette))
    if turn.state in ("done", "stopped", "failed"):
        offers = _offers(turn, palette)
        room = width - head.cell_length - offers.cell_length
        if room > 3:
            head = Content.assemble(head, " " * room, offers)
    return head.truncate(width)


def _folded(turn: Turn, width: int, palette: Palette) -> Content:
    """A whole turn in one line."""
    text = parts_of(turn.text).answer if turn.role == "assistant" else turn.text
    lines = text.strip().splitlines()
    more = f" … {figures.count(len(lines))} lines" if len(lines) > 1 else ""
    mark = click("▸ ", f"fold({turn.key}, 'all')", palette.primary)
    first = Content((lines[0] if lines else turn.label)[:400])
    first = first.truncate(max(8, width - 2 - len(more)), ellipsis=True)
    return Content.assemble(mark, first, Content.styled(more, palette.muted))


def _user_lines(turn: Turn, width: int, palette: Palette, flipped: Set[Fold]) -> list[Content]:
    inner = max(8, width - 4)
    lines = [] if turn.attachments and not turn.text else Content(turn.text).wrap(inner) or [BLANK]
    if turn.editable:
        versions = _versions(turn, palette)
        offers = Content.assemble(versions, "  " if versions else "", _offers(turn, palette))
        first = lines[0].cell_length if lines else inner
        if first + offers.cell_length + 2 > inner:
            lines.insert(0, BLANK)
        gap = inner - lines[0].cell_length - offers.cell_length
        lines[0] = Content.assemble(lines[0], " " * max(1, gap), offers)
    for at, attachment in enumerate(turn.attachments):
        opened = (turn.key, f"file{at}") in flipped
        lines.append(_file_head(turn.key, at, attachment, palette, opened=opened).truncate(inner))
        if opened:
            lines += _file_lines(attachment, inner, palette)
    bar = click("▌ ", f"fold({turn.key}, 'all')", palette.primary)
    drawn = []
    for line in lines:
        pad = max(0, width - 2 - line.cell_length)
        drawn.append(Content.assemble(bar, line, " " * pad).stylize_before(palette.user))
    return drawn


def _file_head(
    key: int, at: int, attachment: Attachment, palette: Palette, *, opened: bool
) -> Content:
    size = figures.size(len(attachment.text.encode("utf-8", "replace")))
    text = f"{'▾' if opened else '▸'} {attachment.name} · {size}"
    return click(text, f"fold({key}, 'file{at}')", palette.marker)


def _file_lines(attachment: Attachment, width: int, palette: Palette) -> list[Content]:
    all_lines = attachment.text.splitlines()
    shown = "\n".join(all_lines[:PREVIEW_LINES])[:PREVIEW_CHARS]
    language = PurePath(attachment.name).suffix.removeprefix(".")
    lines = code_lines(shown, language, width, palette, opens=False, label=None)
    if len(shown) < len(attachment.text.rstrip("\r\n")):
        said = f"… of {figures.count(len(all_lines))} lines, {figures.count(len(attachment.text))}"
        lines.append(Content.styled(f"{said} characters", palette.muted))
    return lines
