"""The conversation, its meters, and the place to write: the screen that the app opens with.

Owns the layout and the keys. What is said belongs to `control.conversation`, what is loaded to
`control.loads`.
"""

from __future__ import annotations

import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from quantchat.tui.control.readings import current
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.screens.writing import WRITING_KEYS, WritingScreen
from quantchat.tui.widgets.bars import Activity, Key, KeyBar, TopBar
from quantchat.tui.widgets.chosen_keys import chosen_keys
from quantchat.tui.widgets.dial import Dial
from quantchat.tui.widgets.meters import MeterLine, MeterPanel
from quantchat.tui.widgets.transcript import Transcript

WIDE_COLUMNS = 100
METERS_EVERY_S = 0.24
DOWNLOADS_EVERY_S = 0.5
"""While an answer streams, which needs the processor more."""


def keys(*, enter_sends: bool, answering: bool, stopped: bool) -> list[Key]:
    """The bottom line, by what can be done now."""
    enter, newline = ("enter", "^j") if enter_sends else ("^j", "enter")
    line = [
        Key(text="stop", action="screen.stop")
        if answering
        else Key(key=enter, text="send", action="screen.send"),
        Key(text="again", action="screen.regenerate"),
    ]
    if stopped:
        line.append(Key(text="continue", action="screen.go_on"))
    return [
        *line,
        Key(text="new", action="screen.new"),
        Key(text="chats", action="app.conversations"),
        Key(text="models", action="app.models"),
        Key(text="scheme", action="app.schemes"),
        Key(text="help", action="app.help"),
        Key(text="dial", action="screen.dial(1)"),
        Key(text="settings", action="app.settings"),
        Key(text="options", action="app.options"),
        Key(key=newline, text="newline"),
        Key(text="choose", action="screen.choose(-1)"),
        Key(text="compare", action="app.compare"),
        Key(text="copy", action="screen.copy_answer"),
        Key(text="meters", action="screen.toggle_meters"),
        Key(text="latency", action="screen.latency"),
        Key(text="explain", action="screen.meters"),
        Key(text="palette", action="app.command_palette"),
        Key(text="quit", action="app.quit"),
    ]


class ChatScreen(WritingScreen):
    """Conversation at the left, meters at the right, prompt below."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE_COLUMNS, "-wide")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop the answer, cancel a load or a download", show=False),
        Binding("ctrl+r", "regenerate", "Answer again; the old answer is kept"),
        Binding("ctrl+g", "go_on", "Continue a stopped answer"),
        Binding("ctrl+n", "new", "New chat"),
        *WRITING_KEYS,
        Binding("alt+up", "dial(-1)", "Dial: the scheme before", id="dial_back"),
        Binding("alt+down", "dial(1)", "Dial: the next scheme", id="dial_forward"),
        Binding("ctrl+b", "toggle_meters", "Show or hide the meters", priority=True),
        Binding("f6", "latency", "Latency of the whole conversation, plotted", priority=True),
        Binding("f7", "meters", "Choose a meter, and learn what it measures", priority=True),
        Binding("pageup", "page(-1)", "Scroll up", priority=True),
        Binding("pagedown", "page(1)", "Scroll down", priority=True),
        Binding("ctrl+home", "to_start", "To the first message", priority=True),
        Binding("ctrl+end", "to_end", "To the latest message", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._metered_s = 0.0
        self._ticked_s = 0.0

    def compose(self) -> ComposeResult:
        yield TopBar(id="top")
        with Horizontal(id="middle"):
            yield self.transcript
            yield MeterPanel(id="meters")
        yield Activity(id="activity")
        yield Dial(id="dial")
        yield self.note
        yield self.completion
        yield self.prompt
        yield MeterLine(id="meter-line")
        yield KeyBar(keys(enter_sends=True, answering=False, stopped=False), id="keys")

    def on_mount(self) -> None:
        self.query_one("#activity").display = False
        self.begin_writing()
        self.set_timer(0.01, self.desk.begin)
        self.set_interval(0.12, self._tick)
        self.app.theme_changed_signal.subscribe(self, lambda _: self.refresh_state())

    def refresh_state(self) -> None:
        """Draw what changed beside the conversation itself."""
        desk = self.desk
        loads, conversation, settings = desk.loads, desk.conversation, desk.preferences.settings
        self.prompt.enter_sends = settings.enter_sends
        self.query_one("#top", TopBar).show(
            loads.info, desk.status.model_state(), conversation.title
        )
        self.set_class(not settings.show_meters, "-no-meters")
        self._show_meters()
        last = conversation.last_answer()
        answering = conversation.answering is not None or conversation.waiting
        dial = self.query_one("#dial", Dial)
        dial.follow(loads.info)
        self.query_one("#keys", KeyBar).show(
            dial.keys()
            if dial.display
            else chosen_keys(self.app)
            if self.transcript.stack.chosen is not None and self.composing.editing is None
            else keys(
                enter_sends=settings.enter_sends,
                answering=answering or loads.busy,
                stopped=not answering and last is not None and last.state in ("stopped", "failed"),
            )
        )
        self._tick()
        self.composing.check_edited()
        if conversation.answering is None:
            self.composing.draw()
        if not conversation.path:
            palette = palette_from(self.app.theme_variables)
            self.transcript.set_empty(desk.status.welcome(palette, self.transcript.size.width))

    def _show_meters(self) -> None:
        """Draw the figures, at most four times a second while they move."""
        now = time.monotonic()
        conversation, loads = self.desk.conversation, self.desk.loads
        if conversation.answering is not None and now - self._metered_s < METERS_EVERY_S:
            return
        self._metered_s = now
        reading = current(conversation, loads)
        if self.has_class("-wide"):
            self.query_one("#meters", MeterPanel).show(reading)
        else:
            self.query_one("#meter-line", MeterLine).show_reading(reading)

    def _tick(self) -> None:
        now = time.monotonic()
        if self.desk.status.beside_an_answer and now - self._ticked_s < DOWNLOADS_EVERY_S:
            return
        self._ticked_s = now
        text, share = self.desk.status.activity()
        activity = self.query_one("#activity", Activity)
        if text or activity.display:
            activity.show(text, share)

    def on_screen_resume(self) -> None:
        self.refresh_state()

    def on_resize(self) -> None:
        if self.is_current:
            self.call_after_refresh(self.refresh_state)

    def on_transcript_follow_changed(self, event: Transcript.FollowChanged) -> None:
        self.transcript.border_subtitle = "" if event.following else "^end follows the answer"

    def action_stop(self) -> None:
        """Leave an edited message, else stop the answer, else what is on its way to the slot."""
        if self.composing.give_up():
            return
        if not self.desk.conversation.stop():
            self.desk.loads.cancel()

    def action_regenerate(self) -> None:
        """Answer the last question again."""
        self.do_or_say(self.desk.conversation.regenerate, "There is no question to answer yet.")

    def action_go_on(self) -> None:
        """Continue a stopped answer."""
        begun = bool(self.desk.conversation.path)
        nothing = "The model is not ready." if begun else "There is no answer to continue yet."
        self.do_or_say(self.desk.conversation.go_on, nothing)

    def action_new(self) -> None:
        """An empty conversation."""
        self.desk.guarded(self.desk.conversation.new)
        self.prompt.focus()

    def action_latency(self) -> None:
        """Plots of the whole conversation."""
        from quantchat.tui.screens.latency import LatencyScreen

        self.app.push_screen(LatencyScreen())

    def action_meters(self) -> None:
        """The keys to the meters: beside the conversation, or in a window where there is no room."""
        panel = self.query_one("#meters", MeterPanel)
        if panel.display:
            panel.focus()
            return
        from quantchat.tui.screens.meters import MetersScreen

        desk = self.desk
        self.app.push_screen(MetersScreen("Meters", lambda: current(desk.conversation, desk.loads)))

    def action_turn_meters(self, key: int) -> None:
        """All meters of an answer."""
        from quantchat.tui.screens.latency import meters_of

        self.app.push_screen(meters_of(self, key))

    def on_meter_panel_asked(self, event: MeterPanel.Asked) -> None:
        event.stop()
        from quantchat.tui.screens.explain import ExplainScreen

        self.app.push_screen(ExplainScreen(event.key, event.reading))

    def on_meter_panel_left(self, event: MeterPanel.Left) -> None:
        event.stop()
        self.prompt.focus()

    def action_toggle_meters(self) -> None:
        """Show or hide the meters."""
        self.desk.set_value("show_meters", not self.desk.preferences.settings.show_meters)

    def action_dial(self, step: int = 0) -> None:
        """Open the dial over the schemes, or turn it."""
        dial = self.query_one("#dial", Dial)
        if not dial.display:
            settings = self.desk.preferences.settings
            dial.open(
                self.desk.offered.read,
                kv=settings.kv,
                scheme=settings.scheme,
                info=self.desk.loads.info,
            )
            self.refresh_state()
        if step:
            dial.action_turn(step)

    async def action_dial_do(self, action: str) -> None:
        """What a key of the dial does, for the mouse."""
        await self.query_one("#dial", Dial).run_action(action)

    def on_dial_taken(self, event: Dial.Taken) -> None:
        event.stop()
        self._close_dial()
        self.desk.switching.take(event.scheme, event.kv, again=event.again)

    def on_dial_closed(self, event: Dial.Closed) -> None:
        event.stop()
        self._close_dial()
        if event.typed:
            self.prompt.insert(event.typed)

    def on_dial_changed(self, event: Dial.Changed) -> None:
        event.stop()
        self.refresh_state()

    def _close_dial(self) -> None:
        self.query_one("#dial", Dial).close()
        self.prompt.focus()
        self.refresh_state()

    def action_page(self, step: int) -> None:
        """Scroll the conversation while the prompt has the focus."""
        transcript = self.transcript
        transcript.scroll_relative(y=step * max(1, transcript.size.height - 2), animate=False)

    def action_to_start(self) -> None:
        """To the first message."""
        self.transcript.action_scroll_home()

    def action_to_end(self) -> None:
        """To the latest message, and follow it."""
        self.transcript.action_scroll_end()
