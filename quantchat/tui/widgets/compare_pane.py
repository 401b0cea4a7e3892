"""One pane of side by side: who answers, its tokens or its Markdown, its meters.

Draws what it is told through `comparing.pane.Pane`; decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.style import Style

from quantchat.comparing.record import Mode
from quantchat.tui import figures
from quantchat.tui.control.comparing.rounds import LiveRound, Written
from quantchat.tui.control.comparing.side import Side, SideName
from quantchat.tui.control.status import load_text
from quantchat.tui.markup.layout import BLANK
from quantchat.tui.markup.palette import Palette
from quantchat.tui.widgets.bars import Activity
from quantchat.tui.widgets.compare_empty import CompareEmpty
from quantchat.tui.widgets.compare_head import HIDDEN, Legend, PaneHead
from quantchat.tui.widgets.meters import MeterLine
from quantchat.tui.widgets.token_blocks import Painter
from quantchat.tui.widgets.token_inks import Inks
from quantchat.tui.widgets.token_view import TokenView
from quantchat.tui.widgets.transcript import Transcript
from quantchat.tui.widgets.turn import Turn, click

BLOCKS_OF_ANSWER = 3
"""Its label, its tokens, its figures; prompts and remarks are one each."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """Something in the pane: a prompt, a remark, or an answer."""

    kind: str
    text: str = ""
    shown: LiveRound | None = None
    name: SideName = "left"

    @property
    def written(self) -> Written:
        assert self.shown is not None
        return self.shown.left if self.shown.mode == "guided" else self.shown.written(self.name)


class ComparePane(Vertical):
    """Implements `comparing.pane.Pane`."""

    def __init__(self, place: int, names: Callable[[LiveRound | None], tuple[str, str]]) -> None:
        word = ("left", "right")[place]
        super().__init__(classes="pane", id=f"pane-{word}")
        self._place = place
        self._names = names
        self._entries: list[_Entry] = []
        self.by_change = False
        """Colour by the change of a token's probability instead of by KL."""
        self.rendered = False
        self.tokens = TokenView(id=f"tokens-{word}")
        self.transcript = Transcript(id=f"text-{word}")
        self.transcript.can_focus = False
        self.empty = CompareEmpty(place)

    def compose(self) -> ComposeResult:
        yield PaneHead(self._place)
        yield Activity()
        yield Legend()
        yield self.empty
        yield self.tokens
        yield self.transcript
        yield MeterLine()

    def on_mount(self) -> None:
        self.query_one(Activity).display = False
        self.query_one(Legend).display = False
        self._uncover()

    def refresh_state(
        self, side: Side, *, mode: Mode, hidden: bool, in_turns: bool, legend: bool
    ) -> None:
        """Head, load and meters, as they are now."""
        self.query_one(PaneHead).show(side, hidden=hidden, in_turns=in_turns)
        self.empty.show(mode)
        activity = self.query_one(Activity)
        text, share = load_text(side.progress) if side.progress and not hidden else ("", None)
        if text or activity.display:
            activity.show(text, share)
        self.query_one(Legend).display = legend
        meters = self.query_one(MeterLine)
        answer = next((each for each in reversed(self._entries) if each.shown is not None), None)
        metrics = None
        if answer is not None and answer.shown is not None and answer.name == side.name:
            metrics = answer.shown.written(side.name).metrics
        meters.show(None if hidden else metrics, None if hidden else side.memory)

    def clear(self) -> None:
        """See Pane.clear."""
        self._entries.clear()
        self.tokens.clear()
        self.transcript.show([])
        self._uncover()

    def forget_first(self) -> None:
        """See Pane.forget_first."""
        at = next((at for at, each in enumerate(self._entries) if each.kind == "answer"), None)
        if at is None:
            return
        del self._entries[: at + 1]
        self.tokens.drop(at + BLOCKS_OF_ANSWER)
        if self.rendered:
            self._render_all()

    def ask(self, text: str) -> None:
        """See Pane.ask."""
        self.tokens.follow = True
        self._add(_Entry("ask", text))
        self.tokens.add_words(lambda width, palette: _prompt_lines(text, width, palette))

    def say(self, text: str) -> None:
        """See Pane.say."""
        self._add(_Entry("say", text))
        self.tokens.add_words(
            lambda width, palette: Content.styled(f"· {text}", palette.muted).wrap(width)
        )

    def begin(self, shown: LiveRound, name: SideName) -> None:
        """See Pane.begin."""
        entry = _Entry("answer", shown=shown, name=name)
        self._add(entry)
        self.tokens.follow = True
        self.tokens.add_words(lambda _, palette: [self._label(entry, palette)])
        self.tokens.begin(self._painter(shown, name), entry.written.pieces)
        self.tokens.add_words(lambda width, palette: self._figures(entry, width, palette))

    def append(self, pieces: Sequence[str]) -> None:
        """See Pane.append."""
        self.tokens.append(pieces)
        if self.rendered:
            self.transcript.append(self._key(len(self._entries) - 1), "".join(pieces))

    def end(self) -> None:
        """See Pane.end."""
        entry = self._last()
        if entry is not None:
            self.tokens.settle(entry.written.pieces)
            if self.rendered:
                self.transcript.update(self._turn(self._entries.index(entry)))

    def to_start(self) -> None:
        """See Pane.to_start."""
        self.tokens.action_scroll_home()
        if self.rendered:
            self.transcript.action_scroll_home()

    def repaint(self, first: int = 0, end: int | None = None) -> None:
        """See Pane.repaint."""
        self.tokens.repaint(first, end)

    def point(self, index: int | None, *, near: bool) -> None:
        """See Pane.point."""
        self.tokens.point(index, near=near)

    def relabel(self) -> None:
        """See Pane.relabel."""
        self.tokens.redraw_words()
        self.tokens.repaint_all()
        if self.rendered:
            for at, turn in enumerate(list(self.transcript.turns)):
                relabelled = self._turn(at)
                if relabelled != turn:
                    self.transcript.update(relabelled)

    def colour(self, *, by_change: bool) -> None:
        """Colour tokens by KL, or by the change of their probability."""
        self.by_change = by_change
        self.query_one(Legend).show(by_change=by_change)
        self.tokens.repaint_all()

    def render_text(self, rendered: bool) -> None:
        """Markdown as it is meant, or the tokens as they were written."""
        self.rendered = rendered
        if rendered:
            self._render_all()
        self._uncover()

    def scroll_by(self, step: int) -> None:
        """Pages up or down."""
        view = self.transcript if self.rendered else self.tokens
        view.scroll_relative(y=step * max(1, view.size.height - 2), animate=False)

    def text_of(self, key: int) -> str:
        """An answer's text by its key; "" for another pane's."""
        at = (key - 1) // 2
        if key < 1 or (key - 1) % 2 != self._place or at >= len(self._entries):
            return ""
        return self._entries[at].written.text

    def text_on_screen(self) -> str:
        """What the pane says."""
        return (self.transcript if self.rendered else self.tokens).text_on_screen()

    def _add(self, entry: _Entry) -> None:
        self._entries.append(entry)
        if len(self._entries) == 1:
            self._uncover()
        if self.rendered:
            self.transcript.add(self._turn(len(self._entries) - 1))

    def _uncover(self) -> None:
        """What stands in the pane: what it is for, its tokens, or its Markdown."""
        self.set_class(not self._entries, "-empty")
        self.set_class(self.rendered, "-rendered")

    def _last(self) -> _Entry | None:
        return next((each for each in reversed(self._entries) if each.kind == "answer"), None)

    def _key(self, at: int) -> int:
        return 2 * at + self._place + 1

    def _turn(self, at: int) -> Turn:
        entry, key = self._entries[at], self._key(at)
        if entry.kind == "ask":
            return Turn(key=key, role="user", text=entry.text)
        if entry.kind == "say":
            return Turn(key=key, role="notice", text=entry.text)
        written = entry.written
        return Turn(
            key=key,
            role="assistant",
            text=written.text,
            label=self._label_words(entry),
            figures=self._figure_words(entry),
            state=written.state,
        )

    def _render_all(self) -> None:
        self.transcript.show([self._turn(at) for at in range(len(self._entries))])

    def _label_words(self, entry: _Entry) -> str:
        shown = entry.shown
        assert shown is not None
        if not shown.revealed:
            return HIDDEN[self._place]
        left, right = self._names(shown)
        if shown.mode == "guided" and entry.name == "right":
            return f"{right} looks at what {left} wrote"
        name = left if entry.name == "left" else right
        return f"{name}, gone on with" if shown.left.given else name

    def _label(self, entry: _Entry, palette: Palette) -> Content:
        shown = entry.shown
        assert shown is not None
        head = Content.styled("◆ ", palette.accent)
        head += Content.styled(self._label_words(entry), palette.muted)
        if shown.choice is not None:
            won = shown.choice == entry.name
            word = "  a tie" if shown.choice == "tie" else "  your choice" if won else ""
            head += Content.styled(word, palette.success)
        if entry.written.state in ("done", "stopped", "failed"):
            action = f"screen.copy_turn({self._key(self._entries.index(entry))})"
            head += Content("  ") + click("copy", action, palette.faint)
        return head

    def _figures(self, entry: _Entry, width: int, palette: Palette) -> Sequence[Content]:
        written = entry.written
        if written.state == "waiting":
            return [Content.styled("…", palette.muted), BLANK]
        words = self._figure_words(entry)
        style = palette.error if written.state == "failed" else palette.muted
        return [*(Content.styled(words, style).wrap(width) if words else ()), BLANK]

    def _figure_words(self, entry: _Entry) -> str:
        shown, written = entry.shown, entry.written
        assert shown is not None
        if written.state == "failed":
            return f"failed: {written.problem}"
        if written.state in ("waiting", "streaming") or not shown.revealed:
            return ""
        if shown.mode == "guided" and entry.name == "right":
            return f"not scored: {shown.problem}" if shown.problem else ""
        if written.metrics is None:
            return "stopped"
        ending = "" if written.finish == "failed" else figures.ENDINGS[written.finish]
        return figures.answer_line(figures.kept(written.metrics), ending)

    def _painter(self, shown: LiveRound, name: SideName) -> Painter:
        def paint(index: int, inks: Inks) -> Style | None:
            if index < shown.left.given:
                return inks.given
            if shown.mode != "guided":
                parting = shown.parting if shown.revealed else None
                return inks.parting if index == parting else None
            if name == "left" or index >= len(shown.scores):
                return None
            score = shown.scores[index]
            if score is None or score.kl is None or score.base_p is None:
                return None
            change = score.p - score.base_p
            ink = inks.of_change(change) if self.by_change else inks.of_kl(score.kl)
            if score.same_top is False:
                return inks.other_top if ink is None else ink + inks.other_top
            return ink

        return paint


def _prompt_lines(text: str, width: int, palette: Palette) -> list[Content]:
    bar = Content.styled("▌ ", palette.primary)
    lines = []
    for line in Content(text).wrap(max(8, width - 2)) or [BLANK]:
        pad = max(0, width - 2 - line.cell_length)
        lines.append(Content.assemble(bar, line, " " * pad).stylize_before(palette.user))
    return [*lines, BLANK]
