"""The app: puts engine, store, settings and screens together and passes events on.

Owns the wiring and the app-wide actions. Conversations, loads and comparisons have their own
modules under `control`; what a screen looks like belongs to the screen.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.theme import Theme

from quantchat import paths
from quantchat.engine.api import Engine
from quantchat.errors import StoreError
from quantchat.events import EngineStopped, Loaded, LoadFailed, LoadProgress, Unloaded
from quantchat.settings.model import Settings
from quantchat.store.chats import Chats
from quantchat.store.records import Attachment
from quantchat.tui import clipboard, style_cache
from quantchat.tui.bridge import Bridge
from quantchat.tui.commands import commands, open_palette, with_keys
from quantchat.tui.control.arrivals import Arrivals
from quantchat.tui.control.chat_options import ChatOptions
from quantchat.tui.control.comparison import Comparison
from quantchat.tui.control.conversation import Conversation
from quantchat.tui.control.fits import FitBook
from quantchat.tui.control.heap import Heap
from quantchat.tui.control.last_time import LastTime
from quantchat.tui.control.library import Library
from quantchat.tui.control.loads import SLOT, Loads
from quantchat.tui.control.measuring import Measuring
from quantchat.tui.control.memory_speed import MemorySpeed
from quantchat.tui.control.offered import Offered
from quantchat.tui.control.plan_fits import PlanFits
from quantchat.tui.control.plan_schemes import PlanSchemes
from quantchat.tui.control.preferences import MODEL_KEYS, Preferences
from quantchat.tui.control.recommended import Recommended
from quantchat.tui.control.schemes import SchemeBook
from quantchat.tui.control.status import Status
from quantchat.tui.control.switching import Switching
from quantchat.tui.control.this_chat import ThisChat
from quantchat.tui.control.transfers import NoTransfers, Transfers
from quantchat.tui.control.writer import TurnWriter
from quantchat.tui.looks import Looks
from quantchat.tui.messages import Item
from quantchat.tui.opening import Opening
from quantchat.tui.own_keys import OwnKeys
from quantchat.tui.screens.chat import ChatScreen
from quantchat.tui.timers import make_sure
from quantchat.tui.trouble import Trouble
from quantchat.tui.unseen import UNSEEN

log = logging.getLogger(__name__)

POLL_S = 0.15
NOTE_CHARS = 1000
"""Longer ones, that quote a paste say, are cut: they would cover the screen, and take seconds."""


class QuantchatApp(Opening):
    """Chat with a model that runs in this process; the engine is given from outside."""

    TITLE = "quantchat"
    KEYS_TITLE = "Everywhere"
    CSS_PATH = "screens/chat.tcss"
    """The default screen's; Textual loads a screen's own file only when it is pushed."""
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", priority=True),
        Binding("ctrl+l", "conversations", "Conversations: open, search, rename, delete"),
        Binding("f8", "options", "This conversation: system prompt, sampling, tags, export"),
        Binding("ctrl+o", "models", "Models: load, fetch, delete"),
        Binding("ctrl+s,f2", "settings", "Settings"),
        Binding("f5", "schemes", "Schemes: what each costs in memory, speed and quality"),
        Binding("ctrl+t", "compare", "Two models or schemes side by side"),
        Binding("f1", "help", "Every key", priority=True),
        Binding("ctrl+p", "command_palette", "Every action by name", priority=True),
    ]

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        chats: Chats,
        library: Library,
        *,
        schemes: SchemeBook | None = None,
        transfers: Transfers | None = None,
        fits: FitBook | None = None,
        settings_path: Path | None = None,
        new_engine: Callable[[], Engine] | None = None,
        warnings: Sequence[str] = (),
        stays: Callable[[], None] | None = None,
    ) -> None:
        self._theme_now: Theme | None = None
        self._heap = Heap(stays)
        make_sure()
        # Without colours: Textual's other way, greys of the theme, are black on 16 colours.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.engine = engine
        self.chats = chats
        self.library = library
        self.schemes: SchemeBook = PlanSchemes() if schemes is None else schemes
        self.transfers: Transfers = NoTransfers() if transfers is None else transfers
        self.preferences = Preferences(settings, settings_path)
        self.fits: FitBook = PlanFits(lambda: self.preferences.settings) if fits is None else fits
        self.measuring = Measuring()
        self.new_engine = new_engine
        self._warnings = tuple(warnings)
        self.chat_screen = ChatScreen()
        self.looks = Looks(self)
        self.own_keys = OwnKeys(self)
        self.trouble = Trouble(self)
        self.memory_speed = MemorySpeed(self)
        self.arrivals = Arrivals(self)
        self.last_time = LastTime(self)
        self.writer = TurnWriter(chats, self._store_failed)
        self.loads = Loads(
            engine,
            library,
            self.transfers,
            in_thread=self._in_thread,
            on_loop=self._on_loop,
            changed=self.state_changed,
            failed=self.trouble.load_failed,
            waits=self.arrivals.waits,
            revive=self.replace_engine,
        )
        self.conversation = Conversation(
            engine,
            chats,
            self.writer,
            self.chat_screen.transcript,
            settings=lambda: self.preferences.settings,
            model=lambda: self.loads.info,
            changed=self.state_changed,
            failed=self.trouble.answer_failed,
        )
        self.options = ChatOptions(
            presets_path=settings_path.with_name("presets.toml")
            if settings_path is not None
            else paths.presets_file(),
            get=lambda: self.conversation.options,
            put=self.conversation.configure,
        )
        self.this_chat = ThisChat(self)
        self.offered = Offered(self)
        self.switching = Switching(self)
        self.comparison: Comparison | None = None
        self.status = Status(
            self.loads,
            self.conversation,
            self.transfers,
            lambda: self.preferences.settings,
            key=self.own_keys.long_name,
            best=Recommended(self).best,
        )
        self.bridge = Bridge(self, engine, self.receive, self.conversation.keep)
        self._begun = False
        self._gathering = False

    @property
    def current_theme(self) -> Theme:
        """The theme, without building the table of all themes for every painted row."""
        if self._theme_now is None or self._theme_now.name != self.theme:
            self._theme_now = super().current_theme
        return self._theme_now

    def forget_theme(self) -> None:
        """The theme that is on may have been read anew."""
        self._theme_now = None

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Those of the terminal's colours, and nothing that would steer the terminal."""
        return [*super().get_line_filters(), UNSEEN]

    def get_default_screen(self) -> Screen[None]:
        """The chat."""
        return self.chat_screen

    def on_mount(self) -> None:
        self.looks.read()
        self.looks.apply()
        self.own_keys.read()

    def begin(self) -> None:
        """Start the work once the first frame is on the screen."""
        if self._begun:
            return
        self._begun = True
        for warning in self._warnings:
            self.notify(warning, severity="warning", timeout=10)
        self.last_time.restore()
        self._heap.begun()
        self.bridge.start()
        self.set_interval(POLL_S, self._poll)
        self.loads.want(self.preferences.load_request())
        self.transfers.begin()
        self._in_thread(self.last_time.empty_bin)

    def on_unmount(self) -> None:
        rest = self.bridge.stop()
        self.transfers.close()
        self.conversation.close(rest)
        self.writer.close()
        self.measuring.close()
        self.engine.close()

    def receive(self, items: Sequence[Item]) -> None:
        """Pass on what the engine said, and draw what follows from it once."""
        self._gathering = True
        self.trouble.stopping = any(
            isinstance(item, EngineStopped) and item.message for item in items
        )
        try:
            self._pass_on(items)
        finally:
            self._gathering = False
            self.switching.settle()
            self.state_changed()

    def _pass_on(self, items: Sequence[Item]) -> None:
        for item in items:
            self._heap.take(item)
            self.measuring.take(item)
            if isinstance(item, EngineStopped):
                self.trouble.engine_stopped(item)
            elif item.slot != SLOT:
                if self.comparison is not None:
                    self.comparison.take(item)
            elif isinstance(item, LoadProgress | Loaded | LoadFailed | Unloaded):
                self.loads.take(item)
                if isinstance(item, Loaded):
                    self.switching.loaded(self.loads.replaced, item)
                if isinstance(item, Loaded) and self.loads.ready:
                    self.guarded(self.conversation.model_ready)
            else:
                self.conversation.take(item)

    def send(self, text: str, attachments: Sequence[Attachment] = ()) -> bool:
        """Ask the model, or keep the question until it is ready; False when it cannot be taken."""
        if self.loads.engine_gone:
            self.trouble.offer_restart()
            return False
        if self.refuse_busy():
            return False
        sent = bool(self.guarded(lambda: self.conversation.send(text, attachments)))
        if self.conversation.waiting and not self.loads.busy:
            self.notify(f"No model is loaded: {self.key_name('app.models')} leads to them.")
        return sent

    def refuse_busy(self) -> bool:
        """Say so while an answer streams or a question waits."""
        if self.conversation.answering is not None:
            self.notify("Escape stops the answer first.", severity="warning")
        elif self.conversation.waiting:
            self.notify("A question waits for the model already.", severity="warning")
        return self.conversation.busy

    def action_command_palette(self) -> None:
        """Every action by name."""
        open_palette(self)

    def set_value(self, key: str, value: object) -> None:
        """Change one setting and let it take effect; raises SettingsError."""
        before = self.preferences.settings.value(key)
        problem = self.preferences.change(**{key: value})
        if problem:
            self.notify(problem, severity="warning")
        if self.preferences.settings.value(key) == before:
            return
        if key in MODEL_KEYS and (key != "calibration_file" or self.loads.calibrated):
            self.loads.want(self.preferences.load_request(), fetch=key == "model")
        elif key in ("theme", "animations"):
            self.looks.apply()
        self.state_changed()

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Say something; texts come from files and engines, so they are never markup."""
        if len(message) > NOTE_CHARS:
            message = f"{message[:NOTE_CHARS]}…"
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=False)

    def choose_model(self, name: str, scheme: str = "") -> None:
        """Load a model, fetching it first where it is not on disk; `scheme`: recommended for it."""
        loads = self.loads
        if loads.info is not None and loads.info.model == name and not loads.busy:
            loads.awaited = ""
            self.state_changed()
            return
        self.preferences.choose(name, scheme)
        loads.want(self.preferences.load_request(), fetch=True)
        self.state_changed()

    def copy_to_clipboard(self, text: str) -> None:
        """What Textual copies, a selection, goes our ways, too."""
        self.copy_text(text, "selection")

    def copy_text(self, text: str, what: str) -> None:
        """To the clipboard, by every way there is; says which."""
        if not text:
            self.notify(f"There is no {what} to copy.", severity="warning")
            return
        driver = self._driver
        write = driver.write if driver is not None else (lambda _: None)
        self._clipboard = text
        to_terminal = partial(self.call_from_thread, write)

        def work() -> None:
            words, done = clipboard.copied(text, what, to_terminal)
            self.notify(words, severity="information" if done else "warning")

        self._in_thread(work)

    def action_compare(self) -> None:
        """Two schemes side by side."""
        from quantchat.tui.screens.compare import CompareScreen

        if self.conversation.answering is not None:
            self.notify("Escape stops the answer first.", severity="warning")
            return
        self._open(CompareScreen)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every action, for the command palette."""
        yield from with_keys(self, screen, commands(self, screen))

    def key_name(self, action: str) -> str:
        """The key of an action of the chat or of the app, as it is now; "" for none."""
        return self.own_keys.name(action)

    def action_read_keys(self) -> None:
        """Take the user's keys out of the settings file again."""
        self.own_keys.read()

    def _poll(self) -> None:
        self.arrivals.poll()
        self.memory_speed.poll()
        style_cache.trim()

    def state_changed(self) -> None:
        """Draw what changed beside the conversation, once for all that the engine said."""
        if self._gathering:
            return
        if self.is_running and self.chat_screen.is_mounted and self.chat_screen.is_current:
            self.chat_screen.refresh_state()

    def _in_thread(self, work: Callable[[], None]) -> None:
        self.run_worker(work, thread=True, exit_on_error=False)

    def _on_loop(self, work: Callable[[], None]) -> None:
        self.call_from_thread(work)

    def _store_failed(self, error: StoreError) -> None:
        self.notify(f"Not saved: {error}", severity="error", timeout=10)

    def replace_engine(self) -> bool:
        """Go on with a fresh engine, without a model; False where none can be made."""
        if self.new_engine is None:
            return False
        old, engine = self.engine, self.new_engine()
        for item in self.bridge.stop():
            self.conversation.take(item)
        self.conversation.engine_lost("the engine was started anew")
        self._in_thread(old.close)
        self.engine = self.conversation.engine = engine
        self.loads.forget(engine)
        self.bridge = Bridge(self, engine, self.receive, self.conversation.keep)
        self.bridge.start()
        return True

    def restart_engine(self) -> None:
        """Close the engine and load the model with a fresh one."""
        self.to_chat()
        if self.replace_engine():
            self.loads.want(self.preferences.load_request())

    def action_restart_engine(self) -> None:
        """Start the engine anew, for when it seems stuck."""
        self.restart_engine()
