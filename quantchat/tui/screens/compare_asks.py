"""What side by side asks of the user: who stands at a side, which token is next, where files go.

Owns the dialogs and what follows from their answers; the screen itself is `compare`'s.
"""

from __future__ import annotations

from pathlib import Path

from quantchat.tui.control.comparing.ballot import Ballot
from quantchat.tui.control.comparing.problem import Problem
from quantchat.tui.control.comparing.rounds import LiveRound
from quantchat.tui.control.comparing.side import NAMES, Choice, Side, SideName, labels
from quantchat.tui.control.comparison import Comparison
from quantchat.tui.screens.base import AppScreen
from quantchat.tui.screens.compare_export import CompareExport, Export, write_wish
from quantchat.tui.screens.compare_side import CompareSide
from quantchat.tui.screens.compare_trouble import trouble_dialog, way_taken
from quantchat.tui.screens.dialog import Dialog, Way
from quantchat.tui.trouble import TYPING_S
from quantchat.tui.widgets.prompt import Prompt


class CompareAsks(AppScreen):
    """The dialogs of side by side."""

    comparison: Comparison
    ballot: Ballot
    folder: Path | None = None
    """Where the last export went."""

    def names(self, shown: LiveRound | None) -> tuple[str, str]:
        """What tells the two apart who answered, or who are chosen now."""
        known = None if shown is None else shown.names()
        return labels(*self.comparison.sides) if known is None else known

    def action_choose(self, name: SideName) -> None:
        """Choose model, scheme and KV precision of a side."""
        if self.comparison.hidden:
            self.notify("Vote first, or escape: the sides are hidden.", severity="warning")
            return
        if self.comparison.answering or self.comparison.waiting:
            self.notify("Escape stops the answers first.", severity="warning")
            return
        side = self.comparison.sides[NAMES.index(name)]

        def chosen(choice: Choice | None) -> None:
            if choice is not None:
                self._choose(side, choice)

        self.app.push_screen(CompareSide(side), chosen)

    def remember(self, side: Side) -> None:
        """Who is chosen there goes into the settings."""
        problem = self.desk.preferences.change(**side.choice.kept(side.name))
        if problem:
            self.notify(problem, severity="warning")

    def _choose(self, side: Side, choice: Choice) -> None:
        self.comparison.choose(side, choice)
        self.remember(side)

    def action_again(self) -> None:
        """Both answer the last prompt once more."""
        if not self.comparison.again():
            self.notify("Both must be loaded and at rest, with a prompt asked.", severity="warning")

    def action_go_on(self) -> None:
        """Ask which token both go on behind, then let both write on."""
        found = self.comparison
        if found.cursor.at is None:
            self.notify("Choose a token first: alt+right, alt+down, or a click.")
            return
        if not found.ready or not found.at_rest or found.hidden:
            self.notify("Both must be loaded and at rest.", severity="warning")
            return
        offers = found.cursor.ways_on(self.names(found.shown))
        ways = [
            Way(key=str(at + 1), label=words, result=str(at))
            for at, (words, _) in enumerate(offers)
        ]

        def taken(result: str | None) -> None:
            if result and not found.go_on(offers[int(result)][1]):
                self.notify("It cannot be gone on with now.", severity="warning")

        self.app.push_screen(
            Dialog(
                f"Both go on at token {found.cursor.at + 1}",
                "Both write on behind the same tokens, as a new round.",
                "Which token comes next?",
                ways,
            ),
            taken,
        )

    def action_export(self) -> None:
        """Ask where, and write what was compared."""
        found = self.comparison
        if found.hidden or found.answering:
            self.notify("Escape ends this round first.", severity="warning")
            return
        record = found.record(())

        def asked(wish: Export | None) -> None:
            if wish is not None:
                self.folder = wish.folder
                work = lambda: write_wish(self.desk, self.ballot.votes, found.record, wish)  # noqa: E731
                self.run_worker(work, thread=True, exit_on_error=False)

        self.app.push_screen(
            CompareExport(self.folder, rounds=len(record.rounds) if record else 0), asked
        )

    def show_problem(self, problem: Problem) -> None:
        """Say what failed, with the ways out."""
        side = None
        if problem.side is not None:
            side = self.comparison.sides[NAMES.index(problem.side)]

        def taken(result: str | None) -> None:
            if result == "again":
                self.action_again()
            elif result == "choose" and side is not None:
                self.action_choose(side.name)
            elif result == "load" and side is not None:
                self._choose(side, side.wish)
            elif result and side is not None:
                self._choose(side, way_taken(side.wish, problem, result))

        dialog = trouble_dialog(problem)
        focused = self.app.focused
        if isinstance(focused, Prompt) and focused.text:
            dialog.quiet_s = TYPING_S
        self.app.push_screen(dialog, taken)
