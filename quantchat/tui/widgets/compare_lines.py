"""Lines of side by side: the mode, the difference, and both models' view of a token."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.geometry import Size
from textual.style import Style

from quantchat.comparing.record import Mode
from quantchat.comparing.turns import TURNS_WORDS
from quantchat.comparing.words import change, percent, quoted
from quantchat.events import Candidate, TokenScore
from quantchat.store.votes import Tally
from quantchat.tui import figures
from quantchat.tui.control.comparing.difference import Difference
from quantchat.tui.markup.palette import Palette
from quantchat.tui.widgets.painted import Painted
from quantchat.tui.widgets.turn import click

MODES: tuple[tuple[Mode, str], ...] = (
    ("free", "each writes its own answer"),
    ("guided", "one writes, the other scores each token"),
    ("blind", "unlabelled and shuffled: you vote"),
)
TOP = 5
WIDE_CELLS = 84
"""From here on the question of a blind round is asked in full."""
FULL_CELLS = 100
"""From here on the agreement is told in full words."""


class ModeLine(Painted):
    """The three modes, the one that is on, and what that means."""

    def __init__(self) -> None:
        super().__init__(id="mode")
        self._mode: Mode = "free"
        self._in_turns = False

    def show(self, mode: Mode, *, in_turns: bool) -> None:
        """Which is on."""
        if (mode, in_turns) != (self._mode, self._in_turns):
            self._mode, self._in_turns = mode, in_turns
            self.refresh()

    def render(self) -> Content:
        """One line; what matters most first."""
        palette, width = self.palette, self.size.width
        line = Content.styled(" ◆ side by side  ", palette.accent)
        for mode, _ in MODES:
            on = mode == self._mode
            style = palette.strong + Style(reverse=True) if on else palette.muted
            line += click(f" {mode} ", f"screen.mode('{mode}')", style)
        if self._in_turns:
            words = TURNS_WORDS if width >= 100 else "no room for both: in turns"
            line += Content.styled(f"  {words}", palette.warning)
        else:
            line += Content.styled(f"  {dict(MODES)[self._mode]}", palette.muted)
        return line.truncate(width, ellipsis=True)


class _Lines(Painted):
    """As many rows as lines, each cut to the width; only a change is drawn."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._lines: list[Content] = []

    def show(self, lines: Sequence[Content]) -> None:
        """New lines."""
        same = len(lines) == len(self._lines) and all(
            new.is_same(old) for new, old in zip(lines, self._lines, strict=True)
        )
        if not same:
            taller = len(lines) != len(self._lines)
            self._lines = list(lines)
            self.refresh(layout=taller)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A row a line."""
        return len(self._lines)

    def render(self) -> Content:
        """Cut to the width."""
        width = self.size.width
        return Content("\n").join(line.truncate(width, ellipsis=True) for line in self._lines)


class DifferenceLine(_Lines):
    """Right against left, in two lines; or the question of a blind round."""

    def __init__(self) -> None:
        super().__init__(id="difference")


class TokenTable(_Lines):
    """The five likeliest tokens of both models at the cursor."""

    def __init__(self) -> None:
        super().__init__(id="token")

    def show(self, lines: Sequence[Content]) -> None:
        """New lines; none hides it."""
        super().show(lines)
        self.display = bool(lines)


def difference_lines(
    difference: Difference, names: tuple[str, str], palette: Palette, width: int
) -> list[Content]:
    """Speed and memory in the first line, agreement in the second."""
    left, right = names
    first: list[Content] = [Content.styled(f" {right} against {left}", palette.accent)]
    if difference.speed_ratio is not None:
        first.append(_figure("decode", f"{difference.speed_ratio:.2f}×", palette))
    if difference.weight_ratio is not None and difference.saved_bytes is not None:
        size = figures.size(abs(difference.saved_bytes))
        less = difference.saved_bytes >= 0
        value = f"÷{difference.weight_ratio:.2f}"
        if width >= FULL_CELLS:
            value += f", {size} {'saved' if less else 'more'}"
        else:
            value += f" ({'−' if less else '+'}{size})"
        first.append(_figure("weights", value, palette))
    if difference.peak_bytes:
        first.append(_figure("peak", figures.size(difference.peak_bytes), palette))
    while len(first) > 1 and sum(each.cell_length + 3 for each in first) - 3 > width:
        first.pop()
    return [Content("   ").join(first), _agreement_line(difference, palette, width)]


def _agreement_line(difference: Difference, palette: Palette, width: int) -> Content:
    if difference.problem:
        return Content.styled(f" not scored: {difference.problem}", palette.error)
    found = difference.agreement
    if found is not None:
        wide = width >= FULL_CELLS
        parts = [
            _figure(
                " same likeliest token" if wide else " same top",
                percent(found.same_top_share, 1),
                palette,
            ),
            _figure("KL mean", figures.divergence(found.kl_mean), palette),
            _figure("max", figures.divergence(found.kl_max), palette),
            _figure("p of the token" if wide else "Δp", change(found.delta_p_mean), palette),
        ]
        count = f"{found.tokens} of {_tokens(difference.scored_of)}{_exactly(difference)}"
        gap = Content("   " if wide else "  ")
        return gap.join([*parts, Content.styled(count, palette.muted)])
    if difference.scored_of:
        text = f" {_tokens(difference.scored_of)} to be scored"
        return Content.styled(text, palette.muted)
    if difference.divergence is not None:
        left, right = (_word(piece) for piece in difference.words)
        same = difference.same_tokens
        begin = f"same for {_tokens(same)}, then" if same else "different from the first token:"
        text = f" {begin} {left} / {right}"
        if not difference.same_context:
            text += "   (earlier answers differ)"
        return Content.styled(text, palette.warning)
    if difference.same_tokens:
        text = f" the same so far: {_tokens(difference.same_tokens)}"
        return Content.styled(text, palette.success)
    return Content("")


def _exactly(difference: Difference) -> str:
    """How many figures are those that an evaluation would find."""
    if difference.exact_tokens >= difference.scored_of:
        return ", exact"
    return f", {difference.exact_tokens} exactly" if difference.exact_tokens else ", so far"


def vote_lines(
    tally: Tally | None, names: tuple[str, str], palette: Palette, width: int
) -> list[Content]:
    """The question of a blind round, and how the votes stand."""
    words = "Which answer is better?" if width >= WIDE_CELLS else "Which is better?"
    question = Content.styled(f" {words}  ", palette.accent)
    for key, word, action in (
        ("1", "the first", "vote(1)"),
        ("2", "the second", "vote(2)"),
        ("0", "a tie", "vote(0)"),
        ("esc", "no vote", "leave"),
    ):
        question += click(f" {key} ", f"screen.{action}", palette.primary)
        question += click(f"{word}   ", f"screen.{action}", palette.strong)
    return [question, tally_line(tally, names, palette)]


def writing_line(tokens: int, palette: Palette) -> Content:
    """While a blind round is written: nothing that tells which is which."""
    words = " both write; you see them when both have ended"
    line = Content.styled(words, palette.accent)
    return line + Content.styled(f"   {_tokens(tokens)} in all", palette.muted) if tokens else line


def tally_line(tally: Tally | None, names: tuple[str, str], palette: Palette) -> Content:
    """Wins and ties of a pair; a share with its interval once two votes are decided."""
    left, right = names
    if tally is None or not tally.votes:
        return Content.styled(f" no votes yet between {left} and {right}", palette.muted)
    line = _figure(f" {left}", str(tally.left), palette)
    line += _figure(f"   {right}", str(tally.right), palette)
    line += _figure("   ties", str(tally.ties), palette)
    interval, share = tally.interval(), tally.right_share
    if interval is not None and share is not None and tally.left + tally.right > 1:
        low, high = interval
        between = f"95 %: {percent(low)} to {percent(high)}"
        text = f"   {right} was better in {percent(share)} ({between})"
        line += Content.styled(text, palette.muted)
    return line


def token_lines(
    score: TokenScore | None,
    *,
    index: int,
    pieces: tuple[str, str],
    names: tuple[str, str],
    palette: Palette,
    width: int,
    why: str = "",
) -> list[Content]:
    """A token, its probabilities, and what each model held likeliest there."""
    head = Content.styled(f" token {index + 1}  ", palette.accent)
    words = dict.fromkeys(_word(piece) for piece in pieces)
    head += Content.styled(" / ".join(words), palette.strong)
    if score is None:
        return [head + Content.styled(f"   {why}", palette.muted)]
    half = max(20, (width - 2) // 2)
    if score.base_p is not None and score.kl is not None:
        before_after = (
            f"   p of {_word(score.text)}: {_share(score.base_p)} → {_share(score.p)}   KL "
        )
        head += Content.styled(before_after, palette.muted)
        head += Content.styled(figures.divergence(score.kl), palette.strong)
    lines = [head, _two(f" {names[0]}", f" {names[1]}", half, palette)]
    for at in range(TOP):
        left = _candidate(score.base_top, at, score.token_id, half, palette)
        right = _candidate(score.top, at, score.token_id, half, palette)
        lines.append(left.pad_right(max(0, half - left.cell_length)) + right)
    return lines


def _two(left: str, right: str, half: int, palette: Palette) -> Content:
    line = Content.styled(left, palette.muted).truncate(half - 1, ellipsis=True)
    return line.pad_right(half - line.cell_length) + Content.styled(right, palette.muted)


def _candidate(
    top: Sequence[Candidate], at: int, written: int, half: int, palette: Palette
) -> Content:
    if at >= len(top):
        return Content("")
    one = top[at]
    style = palette.success if one.token_id == written else palette.base
    cells = max(4, min(12, half // 4))
    full, _ = figures.bar(one.p, cells)
    line = Content.styled(f" {_share(one.p):>7} ", palette.strong)
    line += Content.styled(full.ljust(cells), palette.primary)
    return (line + Content.styled(f" {quoted(one.text)}", style)).truncate(half - 1, ellipsis=True)


def _share(p: float) -> str:
    return percent(p, 1) if p >= 0.0005 or p == 0 else f"{p:.0e}"


def _word(piece: str) -> str:
    return quoted(piece) if piece else "its end"


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{figures.count(count)} tokens"


def _figure(name: str, value: str, palette: Palette) -> Content:
    return Content.styled(f"{name} ", palette.muted) + Content.styled(value, palette.strong)
