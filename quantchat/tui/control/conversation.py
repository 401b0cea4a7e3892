"""The open conversation: what is sent, what streams in, what is kept.

Owns the path of turns and the running answer. Does not draw: a view is told what changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from quantchat.engine.api import Engine
from quantchat.errors import QuantchatError
from quantchat.events import (
    Done,
    Event,
    Failed,
    ModelInfo,
    Notice,
    PrefillProgress,
    Stats,
    Token,
)
from quantchat.requests import ChatRequest, WayOut
from quantchat.settings.model import Settings
from quantchat.settings.presets import with_own
from quantchat.store.chats import Chats
from quantchat.store.records import Attachment, TurnState
from quantchat.tui.control.answering import Answering
from quantchat.tui.control.chat_options import Options, options_of, store_options
from quantchat.tui.control.left import CLOSED, LeftAnswers
from quantchat.tui.control.measured import Measured
from quantchat.tui.control.open_path import OpenPath
from quantchat.tui.control.said import messages_of
from quantchat.tui.control.shown import STATES, shown
from quantchat.tui.control.view import View
from quantchat.tui.control.writer import TurnWriter
from quantchat.tui.figures import ENDINGS, answer_line, kept
from quantchat.tui.messages import Item, TokenRun
from quantchat.tui.widgets.turn import Turn

log = logging.getLogger(__name__)

PENDING = 0
"""Key of the turn that waits for the model."""
EDITED = "edited"
"""Note of an answer that the user wrote anew."""


class Conversation(OpenPath):
    """One conversation at a time; every method runs on the event loop."""

    def __init__(
        self,
        engine: Engine,
        chats: Chats,
        writer: TurnWriter,
        view: View,
        *,
        settings: Callable[[], Settings],
        model: Callable[[], ModelInfo | None],
        changed: Callable[[], None],
        failed: Callable[[str, str, tuple[WayOut, ...]], None],
    ) -> None:
        super().__init__()
        self.engine = engine
        self._chats = chats
        self._writer = writer
        self._view = view
        self._settings = settings
        self._model = model
        self._changed = changed
        self._failed = failed
        self._left = LeftAnswers(writer)
        self._draft: Options | None = None
        """Options of a conversation that is not in the store yet."""
        self.measured = Measured()

    @property
    def title(self) -> str:
        """The title of the conversation."""
        return self.options.title

    def new(self) -> None:
        """Begin an empty conversation; the old one is kept."""
        self._leave()
        self.chat, self.path, self.waiting = None, [], False
        self._draft = None
        self._view.show([])
        self._changed()

    def open(self, chat_id: int) -> None:
        """Show a conversation from the store."""
        self._leave()
        self._writer.flush()
        self.chat = self._chats.get(chat_id)
        self.path = list(self._chats.path(chat_id))
        self.waiting = False
        self._view.show([shown(turn) for turn in self.path])
        self._changed()

    def renamed(self, chat_id: int) -> None:
        """The title was changed elsewhere."""
        if self.chat is not None and self.chat.id == chat_id:
            self.chat = self._chats.get(chat_id)
            self._changed()

    @property
    def options(self) -> Options:
        """Those of the conversation, or of the one that begins with the next message."""
        if self.chat is not None:
            return options_of(self.chat)
        return self._draft or Options(system_prompt=self._settings().system_prompt)

    def configure(self, options: Options) -> None:
        """Change them; they hold from the next answer on."""
        if self.chat is None:
            self._draft = options
        else:
            self.chat = store_options(self._chats, self.chat, options)
        self._changed()

    def send(self, text: str, attachments: Sequence[Attachment] = ()) -> bool:
        """Ask; False while an answer streams or a question waits."""
        if self.busy:
            return False
        settings = self._settings()
        if self.chat is None:
            options = self.options
            self.chat = self._chats.create(
                model=settings.model,
                scheme=settings.scheme,
                kv=settings.kv,
                title=options.title,
                tags=options.tags,
                system_prompt=options.system_prompt,
                sampling=options.sampling,
            )
            self._draft = None
        parent = self.path[-1].id if self.path else None
        turn = self._chats.add_turn(
            self.chat.id, parent, "user", text, attachments=tuple(attachments)
        )
        self.chat = self._chats.get(self.chat.id)
        self.path.append(turn)
        self._view.add(shown(turn))
        self._ask_or_wait()
        return True

    def revise(self, turn_id: int, text: str, attachments: Sequence[Attachment] = ()) -> bool:
        """A new version of a turn, which begins a branch; a question is answered, too."""
        if self.busy or self.chat is None:
            return False
        self._writer.flush()
        old = self._chats.turn(turn_id)
        turn = self._chats.add_turn(
            old.chat_id,
            old.parent_id,
            old.role,
            text,
            model=old.model,
            scheme=old.scheme,
            kv=old.kv,
            attachments=tuple(attachments),
        )
        if old.role == "assistant":
            self._chats.finish_turn(turn.id, "stopped", text, note=EDITED)
        self.path = list(self._chats.path(old.chat_id))
        self._view.show([shown(each) for each in self.path])
        if old.role == "user":
            self._ask_or_wait()
        self._changed()
        return True

    def model_ready(self) -> None:
        """The slot answers: send what waited; what was asked meanwhile this model answers."""
        answering, info = self.answering, self._model()
        if self.waiting:
            self.waiting = False
            self._view.remove_from(PENDING)
            self._ask()
        elif answering is not None and info is not None and not answering.text:
            self.path[-1] = answering.hand_over(self._chats, info)
            self._view.update(answering.drawn)

    def stop(self) -> bool:
        """Stop the running answer, or the wait for the model; False when there is neither."""
        if self.waiting:
            self.waiting = False
            self._view.remove_from(PENDING)
            self._changed()
            return True
        if self.answering is None:
            return False
        self.answering.stopping = True
        self.engine.cancel(self.answering.request_id)
        return True

    def regenerate(self) -> bool:
        """Answer the last question again; the old answer stays as a version."""
        if self.busy or not self.path:
            return False
        if self.path[-1].role == "assistant":
            self._again(self._ask_or_wait)
        else:
            self._ask_or_wait()
        return True

    def go_on(self) -> bool:
        """Continue the last answer where it ended, or answer what has no answer."""
        if self.busy or not self.path:
            return False
        last = self.path[-1]
        if last.role != "assistant" or not last.content:
            return self.regenerate()
        if self._model() is None:
            return False
        self._again(lambda: self._ask(prefix=last.content))
        return True

    def flip(self, turn_id: int, step: int) -> bool:
        """Show another version of a turn and what followed it; False while an answer streams."""
        if self.busy:
            return False
        self._writer.flush()
        versions = self._chats.siblings(turn_id)
        at = next((at for at, turn in enumerate(versions) if turn.id == turn_id), 0)
        wanted = versions[(at + step) % len(versions)]
        if wanted.id != turn_id:
            self.path = list(self._chats.choose(wanted.id))
            self._view.show([shown(turn) for turn in self.path], stay=wanted.id)
            self._changed()
        return True

    def keep(self, events: Sequence[Event]) -> None:
        """Text that came, to the store: sooner than it is drawn."""
        texts: dict[int, list[str]] = {}
        for event in events:
            if isinstance(event, Token):
                texts.setdefault(event.request_id, []).append(event.text)
        for request_id, parts in texts.items():
            now = self.answering
            found = now if now and now.request_id == request_id else self._left.get(request_id)
            if found is not None:
                self._writer.append(found.turn.id, "".join(parts))

    def take(self, item: Item) -> None:
        """Something of the running request."""
        request_id = _request_of(item)
        if self._left.take(request_id, item):
            return
        answering = self.answering
        if answering is None or request_id != answering.request_id:
            return
        if isinstance(item, TokenRun):
            answering.take(item.text, len(item.ids))
            self._view.append(answering.turn.id, item.text)
        elif isinstance(item, Stats):
            self.measured.take(answering.turn.id, item)
        elif isinstance(item, PrefillProgress):
            answering.prefill = item
        elif isinstance(item, Notice):
            self._notice(item.message)
        elif isinstance(item, Done):
            self.measured.take(answering.turn.id, item)
            self._finish_done(answering, item)
        elif isinstance(item, Failed):
            self._finish_failed(answering, item.message, item.hint, item.ways)
        self._changed()

    def engine_lost(self, message: str) -> None:
        """The engine ended while it answered."""
        if self.answering is not None:
            self._finish_failed(self.answering, message, "", tell=False)
        # The next engine counts its requests from one again.
        self._left.end_all("failed", message)
        self._changed()

    def close(self, rest: Sequence[Item]) -> None:
        """The app closes: what streams is kept as far as it came, with the `rest` that nobody drew."""
        if self.answering is not None:
            self.engine.cancel(self.answering.request_id)
            self._left.add(self.answering)
            self.answering = None
        for item in rest:
            self._left.take(_request_of(item), item)
        self._left.end_all("stopped", CLOSED)

    def _leave(self) -> None:
        """Stop without waiting; the rest of the answer goes to the store alone."""
        answering = self.answering
        if self.stop() and answering is not None:
            self._left.add(answering)
            self.answering = None

    def _again(self, ask: Callable[[], None]) -> None:
        """Ask with the last answer off the path; it is back where the store refuses."""
        self._writer.flush()
        last = self.path.pop()
        self._view.remove_from(last.id)
        try:
            ask()
        except QuantchatError:
            self.path.append(last)
            self._view.add(shown(last))
            raise

    def _ask_or_wait(self) -> None:
        if self._model() is None:
            self.waiting = True
            label = "waiting for the model"
            self._view.add(
                Turn(key=PENDING, role="assistant", text="", label=label, state="waiting")
            )
            self._changed()
        else:
            self._ask()

    def _ask(self, prefix: str = "") -> None:
        """Have the last turn answered, or go on with an answer that was taken off the path."""
        info, chat = self._model(), self.chat
        assert info is not None and chat is not None
        settings = with_own(self._settings(), chat.sampling)
        begun = prefix or info.opening
        parent = self.path[-1].id
        turn = self._chats.add_turn(
            chat.id,
            parent,
            "assistant",
            begun,
            state="streaming",
            model=info.model,
            scheme=info.scheme,
            kv=info.kv,
        )
        seen = shown(turn)
        seen.state = "streaming" if prefix else "waiting"
        self._view.add(seen)
        request = ChatRequest(
            messages=messages_of(self.path, chat.system_prompt, prefix),
            sampling=settings.sampling(),
            max_tokens=settings.max_tokens,
            continue_last=bool(prefix),
        )
        self.path.append(turn)
        self.answering = Answering(request_id=0, turn=turn, drawn=seen, prefix=begun)
        self.answering.goes_on = bool(prefix)
        self.answering.thought.feed(begun)
        try:
            self.answering.request_id = self.engine.chat(request)
        except QuantchatError as error:
            self._finish_failed(self.answering, error.message, error.hint, error.ways)
        self._changed()

    def _finish_done(self, answering: Answering, done: Done) -> None:
        text = answering.prefix + done.text
        metrics = answering.figures(kept(done.metrics, self._model()))
        ending = ENDINGS[done.finish_reason]
        state: TurnState = "complete" if done.finish_reason == "stop" else "stopped"
        self._writer.finish(answering.turn.id, state, text, metrics, ending)
        answering.turn = replace(answering.turn, metrics=metrics, note=ending)
        self._close(answering, text, state, answer_line(metrics or {}, ending))

    def _finish_failed(
        self,
        answering: Answering,
        message: str,
        hint: str,
        ways: tuple[WayOut, ...] = (),
        *,
        tell: bool = True,
    ) -> None:
        metrics = answering.figures(None)
        self._writer.finish(answering.turn.id, "failed", answering.whole, metrics, message)
        answering.turn = replace(answering.turn, metrics=metrics, note=message)
        self._close(answering, answering.whole, "failed", f"failed: {message}")
        if tell:
            self._failed(message, hint, ways)

    def _close(self, answering: Answering, text: str, state: TurnState, figures: str) -> None:
        self.answering = None
        seen = answering.drawn
        seen.text, seen.figures, seen.state = text, figures, STATES[state]
        self._view.update(seen)
        self.path[-1] = replace(answering.turn, content=text, state=state)

    def _notice(self, message: str) -> None:
        log.info("notice: %s", message)
        assert self.answering is not None
        turn = Turn(key=-1, role="notice", text=message)
        self._view.add(turn, before=self.answering.turn.id)


def _request_of(item: Item) -> int | None:
    if isinstance(item, TokenRun | Stats | PrefillProgress | Notice | Done | Failed):
        return item.request_id
    return None
