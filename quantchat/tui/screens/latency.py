"""Latency, speed and context of a whole conversation, plotted by answer."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid
from textual.content import Content
from textual.geometry import Size
from textual.widgets import Static

from quantchat.tui.control.charts import (
    answer_words,
    context_chart,
    gap_chart,
    speed_chart,
    ttft_chart,
)
from quantchat.tui.control.readings import Answered, answers_of, current
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.reading import Reading
from quantchat.tui.screens.base import AppScreen, has_widgets
from quantchat.tui.screens.meters import MetersScreen
from quantchat.tui.widgets.bars import Key, KeyBar, TopBar
from quantchat.tui.widgets.plot import Plot

EVERY_S = 0.5
WORD_LINES = 3
KEYS = (
    Key(text="answer before", action="screen.choose(-1)"),
    Key(text="next answer", action="screen.choose(1)"),
    Key(text="its meters", action="screen.open"),
    Key(text="back", action="screen.leave"),
)


class LatencyScreen(AppScreen):
    """Four charts over the answers of the path; one answer is chosen and told in words."""

    KEYS_TITLE = "Latency"
    CSS_PATH = "latency.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "choose(-1)", "The answer before"),
        Binding("right", "choose(1)", "The next answer"),
        Binding("home", "choose(-1000000)", "The first answer", id="first"),
        Binding("end", "choose(1000000)", "The last answer", id="last"),
        Binding("enter,question_mark", "open", "All meters of the answer, and what they measure"),
        Binding("escape,f6,q", "leave", "Back to the conversation"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._answers: list[Answered] = []
        self._chosen: int | None = None
        """None follows the last answer."""
        self._words = Content("")
        self._state: tuple[object, ...] = ()
        self._drawn_size = Size(0, 0)

    def compose(self) -> ComposeResult:
        yield TopBar(id="top")
        with Grid(id="charts"):
            yield Plot(id="ttft")
            yield Plot(id="speed")
            yield Plot(id="gaps")
            yield Plot(id="context")
        yield Static(id="words")
        yield KeyBar(KEYS, id="keys")

    def on_mount(self) -> None:
        self._draw()
        self.set_interval(EVERY_S, self._draw)

    def on_screen_resume(self) -> None:
        self._draw()

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def on_plot_picked(self, event: Plot.Picked) -> None:
        event.stop()
        self._choose(event.index)

    def action_choose(self, step: int) -> None:
        """Another answer."""
        self._choose(self._at + step)

    def action_open(self) -> None:
        """All meters of the chosen answer."""
        if self._answers:
            self.app.push_screen(meters_of(self, self._answers[self._at].turn_id))

    def action_leave(self) -> None:
        """Back."""
        self.dismiss()

    @property
    def _at(self) -> int:
        last = len(self._answers) - 1
        return max(0, last if self._chosen is None else min(self._chosen, last))

    def _choose(self, index: int) -> None:
        last = len(self._answers) - 1
        self._chosen = None if index >= last else max(0, index)
        self._draw()

    def _draw(self) -> None:
        """Take what there is now; charts that did not change are left as they are."""
        if not has_widgets(self):
            return
        desk = self.desk
        path = desk.conversation.path
        state = (
            len(path),
            path[-1:],
            desk.conversation.measured.latest,
            desk.loads.info,
            self._chosen,
        )
        if state == self._state and self.size == self._drawn_size:
            return
        self._state, self._drawn_size = state, self.size
        self._answers = answers_of(desk.conversation, desk.loads)
        answers, at = self._answers, self._at
        self.query_one("#top", TopBar).show(
            desk.loads.info, desk.status.model_state(), desk.conversation.title
        )
        self.query_one("#ttft", Plot).show(ttft_chart(answers, at))
        self.query_one("#speed", Plot).show(speed_chart(answers, at))
        self.query_one("#gaps", Plot).show(gap_chart(answers, at))
        self.query_one("#context", Plot).show(context_chart(answers, at))
        name, measured = answer_words(answers[at]) if answers else ("no answer yet", "")
        palette, width = palette_from(self.app.theme_variables), max(10, self.size.width - 2)
        lines = [
            Content.styled(name, palette.strong).truncate(width, ellipsis=True),
            *Content.styled(measured, palette.muted).wrap(width)[:WORD_LINES],
        ]
        words = Content("\n").join(lines)
        if not words.is_same(self._words):
            self._words = words
            self.query_one("#words", Static).update(words)


def meters_of(screen: AppScreen, turn_id: int) -> MetersScreen:
    """The window of an answer's meters, for any answer of the path."""
    desk = screen.desk

    def found() -> Answered | None:
        answers = answers_of(desk.conversation, desk.loads)
        return next((each for each in answers if each.turn_id == turn_id), None)

    def read() -> Reading:
        answer, now = found(), current(desk.conversation, desk.loads)
        reading = Reading() if answer is None else answer.reading
        # The machine beside it is told of the latest answer alone.
        return now if reading.answered and now.kept == reading.kept else reading

    answer = found()
    parts = () if answer is None else (f"Answer {answer.number}", answer.model, answer.label)
    return MetersScreen(" · ".join(part for part in parts if part), read)
