"""Side by side: two models above one prompt, free, guided or blind.

Owns the layout, the keys and what is asked of the user. What happens belongs to
`control.comparison`, what a pane looks like to `widgets.compare_pane`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, cast

from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content

from quantchat.comparing.record import Mode
from quantchat.tui.control.comparing.ballot import Ballot
from quantchat.tui.control.comparing.chat_room import ChatRoom
from quantchat.tui.control.comparing.side import NAMES
from quantchat.tui.control.comparison import Comparison
from quantchat.tui.markup.chunks import code_blocks
from quantchat.tui.screens.compare_asks import CompareAsks
from quantchat.tui.screens.compare_keys import keys
from quantchat.tui.widgets.bars import KeyBar
from quantchat.tui.widgets.compare_lines import (
    MODES,
    DifferenceLine,
    ModeLine,
    TokenTable,
    difference_lines,
    tally_line,
    token_lines,
    vote_lines,
    writing_line,
)
from quantchat.tui.widgets.compare_pane import ComparePane
from quantchat.tui.widgets.prompt import Prompt
from quantchat.tui.widgets.token_view import TokenView

TICK_S = 0.2
"""Figures follow the engine at this pace, and what the user does at once."""


class CompareScreen(CompareAsks):
    """Two panes above one prompt."""

    KEYS_TITLE = "Side by side"
    CSS_PATH = "compare.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (16, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Stop, or leave"),
        Binding("ctrl+n", "clear", "Begin anew"),
        Binding("ctrl+t", "quit_screen", "Leave", priority=True),
        Binding("f5", "choose('left')", "Model, scheme and KV at the left", priority=True),
        Binding("f6", "choose('right')", "Model, scheme and KV at the right", priority=True),
        Binding("f7", "next_mode", "Mode: free, guided, blind", priority=True),
        Binding("f8", "export", "Export as Markdown, JSON, SVG", priority=True),
        Binding("f9", "view", "Tokens or Markdown; guided: KL or change of p", priority=True),
        Binding("alt+left", "token(-1)", "Token before the cursor", priority=True),
        Binding("alt+right", "token(1)", "Token behind the cursor", priority=True),
        Binding("alt+down", "parting(1)", "Next token that differs", priority=True),
        Binding("alt+up", "parting(-1)", "Token before that differs", priority=True),
        Binding("ctrl+r", "again", "Both answer again", priority=True),
        Binding("ctrl+g", "go_on", "Both go on from the cursor", priority=True),
        Binding("1", "vote(1)", "Blind: the first is better", id="vote_1"),
        Binding("2", "vote(2)", "Blind: the second is better"),
        Binding("0", "vote(0)", "Blind: a tie"),
        Binding("pageup", "page(-1)", "Scroll up", priority=True),
        Binding("pagedown", "page(1)", "Scroll down", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._stale = True
        """Something changed since the figures were drawn."""
        self._voting = False
        self.left = ComparePane(0, self.names)
        self.right = ComparePane(1, self.names)
        self.ballot = Ballot(self.desk, self._mark_changed)
        self._room = ChatRoom(self.desk)
        settings = self.desk.preferences.settings
        self.comparison = Comparison(
            self.desk.engine,
            (self.left, self.right),
            lambda: self.desk.preferences.settings,
            self._room,
            mode=cast("Mode", settings.compare_mode),
            system_prompt=settings.system_prompt,
            changed=self._mark_changed,
            failed=self.show_problem,
            taken_back=self.remember,
            closed=self._slots_empty,
        )

    def compose(self) -> ComposeResult:
        yield ModeLine()
        with Container(id="panes"):
            yield self.left
            yield self.right
        yield TokenTable()
        yield DifferenceLine()
        yield Prompt(id="prompt", placeholder="One prompt for both")
        yield KeyBar(keys(busy=False, voting=False, cursor=False), id="keys")

    def on_mount(self) -> None:
        before = self.desk.comparison
        if before is not None:
            self.comparison.pair.lent = before.pair.lent
        self.desk.comparison = self.comparison
        self.query_one(TokenTable).display = False
        self.prompt.enter_sends = self.desk.preferences.settings.enter_sends
        self.prompt.focus()
        self.comparison.open()
        self.set_interval(TICK_S, self._tick)
        self.app.theme_changed_signal.subscribe(self, lambda _: self._mark_changed())

    def on_unmount(self) -> None:
        self.app.theme_changed_signal.unsubscribe(self)
        self.comparison.close()

    def commands(self) -> Iterable[SystemCommand]:
        """See AppScreen.commands."""
        for mode, words in MODES:
            yield SystemCommand(
                f"Mode: {mode}", words.capitalize(), lambda mode=mode: self.action_mode(mode)
            )
        for name in NAMES:
            yield SystemCommand(
                f"Choose the {name} side",
                "Model, scheme and KV precision",
                lambda name=name: self.action_choose(name),
            )
        for title, words, action in (
            ("Both answer again", "The last prompt once more", self.action_again),
            ("Go on from the cursor", "Both write on behind a token", self.action_go_on),
            ("Export the comparison", "Markdown, JSON, SVG, votes", self.action_export),
            ("Other view", "Tokens or Markdown; KL or change of p", self.action_view),
            ("Begin anew", "Both models stay", self.action_clear),
            ("Back to the chat", "Gives both models' memory back", self.action_quit_screen),
        ):
            yield SystemCommand(title, words, action)
        for step, word in ((1, "Next"), (-1, "Previous")):
            yield SystemCommand(
                f"{word} token that differs",
                "Moves the cursor",
                lambda step=step: self.action_parting(step),
            )

    @property
    def prompt(self) -> Prompt:
        """Where the user writes."""
        return self.query_one("#prompt", Prompt)

    def refresh_state(self) -> None:
        """Draw figures, heads and the difference."""
        found = self.comparison
        hidden, in_turns, shown = found.hidden, found.pair.taking_turns, found.shown
        guided = (found.mode if shown is None else shown.mode) == "guided"
        self.set_class(guided, "-guided")
        self.set_class(found.cursor.at is not None, "-token")
        if guided and self.right.rendered:
            self.right.render_text(False)
        self.query_one(ModeLine).show(found.mode, in_turns=in_turns)
        for at, pane in enumerate((self.left, self.right)):
            legend = guided and at == 1
            pane.refresh_state(
                found.side_at(at), mode=found.mode, hidden=hidden, in_turns=in_turns, legend=legend
            )
        voting = shown is not None and shown.voting
        self._follow_vote(voting)
        if found.mode == "blind":
            self.ballot.count(*(side.contender for side in found.sides))
        self.query_one(DifferenceLine).show(self._lines(hidden=hidden, voting=voting))
        self._show_token()
        self.query_one("#keys", KeyBar).show(
            keys(busy=not found.at_rest, voting=voting, cursor=found.cursor.at is not None)
        )

    def _lines(self, *, hidden: bool, voting: bool) -> list[Content]:
        found, names = self.comparison, self.names(None)
        palette = self.query_one(ModeLine).palette
        if voting:
            return vote_lines(self.ballot.tally, names, palette, self.size.width)
        if hidden:
            return [
                writing_line(found.tokens_written, palette),
                tally_line(self.ballot.tally, names, palette),
            ]
        lines = difference_lines(found.difference(), names, palette, self.size.width)
        if found.mode == "blind":
            lines.append(tally_line(self.ballot.tally, names, palette))
        return lines

    def _show_token(self) -> None:
        found, table = self.comparison, self.query_one(TokenTable)
        shown, index = found.shown, found.cursor.at
        if shown is None or index is None:
            if table.display:
                table.show([])
            return
        table.show(
            token_lines(
                shown.score_at(index),
                index=index,
                pieces=found.cursor.pieces(),
                names=self.names(shown),
                palette=table.palette,
                width=self.size.width,
                why=found.cursor.why_unknown(),
            )
        )

    def _follow_vote(self, voting: bool) -> None:
        """While a vote is due the digits are votes, not text."""
        if voting == self._voting:
            return
        self._voting = voting
        if voting and not self.prompt.text:
            self.set_focus(None)
        elif not voting and self.focused is None:
            self.prompt.focus()

    def on_text_area_changed(self) -> None:
        """Where what was begun is taken back, digits are votes again."""
        if self._voting and not self.prompt.text:
            self.set_focus(None)

    def _mark_changed(self) -> None:
        self._stale = True

    def _tick(self) -> None:
        self.comparison.tick()
        if self._stale:
            self._draw()

    def _draw(self) -> None:
        if self.is_mounted:
            self._stale = False
            self.refresh_state()

    def on_resize(self) -> None:
        self._mark_changed()

    def on_mouse_up(self) -> None:
        """A click beside the prompt leaves the focus there, unless digits are votes."""
        if self.focused is None and not self._voting:
            self.prompt.focus()

    def on_prompt_submitted(self, event: Prompt.Submitted) -> None:
        event.stop()
        self.action_send()

    def on_token_view_token_clicked(self, event: TokenView.TokenClicked) -> None:
        event.stop()
        at = 0 if event.view is self.left.tokens else 1
        self.comparison.cursor.point(event.index, self.comparison.side_at(at).name)
        self._draw()

    def action_send(self) -> None:
        """Ask both; waits for the loads. With nothing written, loads what is not there."""
        text = self.prompt.text.strip()
        if not text:
            self.comparison.open()
        elif self.comparison.send(text):
            self.prompt.take()
            if self.comparison.waiting:
                self.notify("Asked as soon as both are loaded.")
        else:
            self.notify("Escape stops the answers first.", severity="warning")

    def action_leave(self) -> None:
        """Stop what is under way; else give the vote up; else go back to the chat."""
        if not self.comparison.stop() and not self.comparison.skip_vote():
            self.dismiss(None)

    def action_quit_screen(self) -> None:
        """Back to the chat, whatever is under way."""
        self.comparison.stop()
        self.dismiss(None)

    def action_clear(self) -> None:
        """Begin anew with both models loaded."""
        self.comparison.clear()
        self.prompt.focus()
        self._draw()

    def action_mode(self, mode: Mode) -> None:
        """Another mode."""
        if self.comparison.answering or self.comparison.waiting or self.comparison.hidden:
            self.notify("Escape ends this round first.", severity="warning")
            return
        self.comparison.set_mode(mode)
        self._draw()
        problem = self.desk.preferences.change(compare_mode=mode)
        if problem:
            self.notify(problem, severity="warning")

    def action_next_mode(self) -> None:
        """The mode behind the one that is on."""
        names = [name for name, _ in MODES]
        self.action_mode(names[(names.index(self.comparison.mode) + 1) % len(names)])

    def action_view(self) -> None:
        """Tokens or Markdown; in guided mode colours of KL or of the change of p."""
        shown = self.comparison.shown
        if (self.comparison.mode if shown is None else shown.mode) == "guided":
            self.right.colour(by_change=not self.right.by_change)
            return
        rendered = not self.left.rendered
        for pane in (self.left, self.right):
            pane.render_text(rendered)

    def action_token(self, step: int) -> None:
        """Move the cursor."""
        self._show_tokens()
        self.comparison.cursor.move(step)
        self._draw()

    def action_parting(self, step: int) -> None:
        """To the next token that differs, or the one before."""
        self._show_tokens()
        if not self.comparison.cursor.to_parting(step):
            self.notify("No token differs further on." if step > 0 else "None differs before.")
        self._draw()

    def _show_tokens(self) -> None:
        """The cursor is on a token: Markdown has none."""
        for pane in (self.left, self.right):
            if pane.rendered:
                pane.render_text(False)

    def action_vote(self, pane: int) -> None:
        """The first or the second is better, or 0: neither."""
        voted = self.comparison.vote(None if pane == 0 else pane - 1)
        if voted is None or voted.choice is None:
            return
        left, right = (side.contender for side in self.comparison.sides)
        self.ballot.cast(voted.prompt, left, right, voted.choice)
        self._draw()

    def action_copy_turn(self, key: int) -> None:
        """An answer to the clipboard, as Markdown."""
        self.desk.copy_text(self._text_of(key), "answer")

    def action_copy_code(self, key: int, index: int) -> None:
        """A code block of an answer to the clipboard."""
        blocks = code_blocks(self._text_of(key))
        if index < len(blocks):
            self.desk.copy_text(blocks[index], "code")

    def action_page(self, step: int) -> None:
        """Scroll both panes."""
        for pane in (self.left, self.right):
            pane.scroll_by(step)

    def _text_of(self, key: int) -> str:
        return self.left.text_of(key) or self.right.text_of(key)

    def _slots_empty(self) -> None:
        """Both models are gone: the chat's comes back where it had to make room."""
        if self._room.app.comparison is self.comparison:
            self._room.app.comparison = None
            if self.comparison.pair.lent:
                self._room.give_back()
