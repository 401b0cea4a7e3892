"""The lines above a pane of side by side: who answers, and what the colours mean."""

from __future__ import annotations

from textual.content import Content

from quantchat.events import ModelInfo
from quantchat.tui import figures
from quantchat.tui.control.comparing.pair import CANCELLED
from quantchat.tui.control.comparing.side import Side
from quantchat.tui.markup.palette import Palette
from quantchat.tui.widgets.painted import Painted
from quantchat.tui.widgets.token_inks import inks_from, legend
from quantchat.tui.widgets.token_view import COARSE
from quantchat.tui.widgets.turn import click

HIDDEN = ("the first", "the second")
"""The panes while nobody may know which is which."""


class PaneHead(Painted):
    """What is loaded in a pane, or what is on its way there; a click chooses."""

    def __init__(self, place: int) -> None:
        super().__init__(classes="head")
        self._place = place
        self._side: Side | None = None
        self._hidden = self._in_turns = False
        self._known: tuple[object, ...] = ()

    def show(self, side: Side, *, hidden: bool, in_turns: bool) -> None:
        """What is known now."""
        known = (
            *(side.name, side.info, side.problem, side.loaded, side.choice, side.load_id),
            *(hidden, in_turns),
        )
        if known != self._known:
            self._known, self._side = known, side
            self._hidden, self._in_turns = hidden, in_turns
            self.refresh()

    def render(self) -> Content:
        """One line."""
        side = self._side
        if side is None:
            return Content("")
        palette = self.palette
        if self._hidden:
            return Content.styled(f" {HIDDEN[self._place]}", palette.accent)
        action = f"screen.choose('{side.name}')"
        name = click(f" {side.name} ", action, palette.accent)
        if side.problem and not side.loaded:
            again = "  enter loads it again" if side.problem == CANCELLED else ""
            words = Content.styled(side.problem + again, palette.error)
        else:
            known = side.info is not None
            words = Content.styled(_wish(side), palette.muted)
            if side.info is not None:
                words = _loaded(side.info, palette)
            if known and side.load_id and side.choice != side.worked:
                words = Content.styled(f"→ {_wish(side)}   ", palette.warning) + words
            elif not side.loaded and not side.load_id and self._in_turns:
                words += Content.styled(" · waits for its turn", palette.warning)
        return (name + words).truncate(self.size.width, ellipsis=True)


class Legend(Painted):
    """What the colours of the tokens mean."""

    def __init__(self) -> None:
        super().__init__(classes="legend")
        self.by_change = False

    def show(self, *, by_change: bool) -> None:
        """Which of the two is shown."""
        if by_change != self.by_change:
            self.by_change = by_change
            self.refresh()

    def render(self) -> Content:
        """One line."""
        inks = inks_from(self.palette, coarse=self.app.console.color_system in COARSE)
        line = legend(inks, self.palette, by_change=self.by_change)
        return (Content(" ") + line).truncate(self.size.width, ellipsis=True)


def _loaded(info: ModelInfo, palette: Palette) -> Content:
    name = figures.model_name(info.model)
    bits = Content.styled(f" · {info.bits_per_weight:.2f} bits/weight", palette.strong)
    said = Content.styled(f"{name} · ", palette.muted)
    said += Content.styled(info.scheme, palette.primary)
    return said + Content.styled(f" · kv {info.kv} · {info.device}", palette.muted) + bits


def _wish(side: Side) -> str:
    model = figures.model_name(side.choice.model or side.chat_model)
    return f"{model} · {side.choice.scheme} · kv {side.choice.kv}"
