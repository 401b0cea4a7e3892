"""The open conversation: what is sent, what streams in, what is kept.

Owns the path of turns and the running answer. Does not draw: a view is told what changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from quantchat.engine.api import Engine
from quantchat.errors import QuantchatError
from quantchat.events import (
    Done,
    Failed,
    ModelInfo,
    Notice,
    PrefillProgress,
    Stats,
)
from quantchat.requests import ChatRequest, Message
from quantchat.settings.model import Settings
from quantchat.store.chats import Chats
from quantchat.store.records import Chat, TurnState
from quantchat.store.records import Turn as StoredTurn
from quantchat.tui.control.writer import TurnWriter
from quantchat.tui.figures import ENDINGS, answer_line, kept, model_name
from quantchat.tui.messages import Item, TokenRun
from quantchat.tui.widgets.turn import Turn

log = logging.getLogger(__name__)

PENDING = 0
"""Key of the turn that waits for the model."""


class View(Protocol):
    """What a conversation needs of the screen."""

    def show(self, turns: list[Turn]) -> None:
        """Replace all turns."""

    def add(self, turn: Turn, before: int | None = None) -> None:
        """A turn at the end, or before the one with that key."""

    def append(self, key: int, text: str) -> None:
        """Streamed text."""

    def update(self, turn: Turn) -> None:
        """A turn changed."""

    def remove_from(self, key: int) -> None:
        """Take a turn and all after it away."""


@dataclass(slots=True, kw_only=True)
class Answering:
    """The answer that streams now."""

    request_id: int
    turn: StoredTurn
    drawn: Turn
    prefix: str
    text: str = ""
    prefill: PrefillProgress | None = None
    stopping: bool = False


class Conversation:
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
        failed: Callable[[str, str], None],
    ) -> None:
        self.engine = engine
        self._chats = chats
        self._writer = writer
        self._view = view
        self._settings = settings
        self._model = model
        self._changed = changed
        self._failed = failed
        self.chat: Chat | None = None
        self.path: list[StoredTurn] = []
        self.answering: Answering | None = None
        self._left: dict[int | None, Answering] = {}
        """Answers whose conversation was left while they streamed, until they end."""
        self.stats: Stats | Done | None = None
        """The latest meters."""
        self.waiting = False
        """The last question is sent as soon as the model is ready."""

    @property
    def title(self) -> str:
        """The title of the conversation."""
        return self.chat.title if self.chat else ""

    def new(self) -> None:
        """Begin an empty conversation; the old one is kept."""
        self._leave()
        self.chat, self.path, self.waiting = None, [], False
        self._view.show([])
        self._changed()

    def open(self, chat_id: int) -> None:
        """Show a conversation from the store."""
        self._leave()
        self._writer.flush()
        self.chat = self._chats.get(chat_id)
        self.path = list(self._chats.path(chat_id))
        self.waiting = False
        self._view.show([drawn(turn) for turn in self.path])
        self._changed()

    def renamed(self, chat_id: int) -> None:
        """The title was changed elsewhere."""
        if self.chat is not None and self.chat.id == chat_id:
            self.chat = self._chats.get(chat_id)
            self._changed()

    def send(self, text: str) -> bool:
        """Ask; False while an answer streams or a question waits."""
        if self.answering is not None or self.waiting:
            return False
        settings = self._settings()
        if self.chat is None:
            self.chat = self._chats.create(
                model=settings.model,
                scheme=settings.scheme,
                kv=settings.kv,
                system_prompt=settings.system_prompt,
            )
        parent = self.path[-1].id if self.path else None
        turn = self._chats.add_turn(self.chat.id, parent, "user", text)
        self.chat = self._chats.get(self.chat.id)
        self.path.append(turn)
        self._view.add(drawn(turn))
        self._ask_or_wait()
        return True

    def model_ready(self) -> None:
        """The slot answers: send what waited."""
        if self.waiting:
            self.waiting = False
            self._view.remove_from(PENDING)
            self._ask()

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
        if self.answering is not None or self.waiting or not self.path:
            return False
        if self.path[-1].role == "assistant":
            self._writer.flush()
            self._view.remove_from(self.path.pop().id)
        self._ask_or_wait()
        return True

    def go_on(self) -> bool:
        """Continue the last answer where it ended."""
        if self.answering is not None or self.waiting or not self.path:
            return False
        last = self.path[-1]
        if last.role != "assistant" or not last.content or self._model() is None:
            return False
        self._writer.flush()
        self._view.remove_from(self.path.pop().id)
        self._ask(prefix=last.content)
        return True

    def flip(self, turn_id: int, step: int) -> None:
        """Show another version of a turn."""
        if self.answering is not None:
            return
        self._writer.flush()
        versions = self._chats.siblings(turn_id)
        at = next((at for at, turn in enumerate(versions) if turn.id == turn_id), 0)
        wanted = versions[(at + step) % len(versions)]
        if wanted.id != turn_id:
            self.path = list(self._chats.choose(wanted.id))
            self._view.show([drawn(turn) for turn in self.path])

    def last_answer(self) -> StoredTurn | None:
        """The last turn of the model."""
        return next((turn for turn in reversed(self.path) if turn.role == "assistant"), None)

    def text_of(self, turn_id: int) -> str:
        """The text of a turn of the path, or of the one that streams."""
        if self.answering is not None and self.answering.turn.id == turn_id:
            return self.answering.prefix + self.answering.text
        return next((turn.content for turn in self.path if turn.id == turn_id), "")

    def take(self, item: Item) -> None:
        """Something of the running request."""
        request_id = _request_of(item)
        if request_id in self._left:
            self._take_left(self._left[request_id], item)
            return
        answering = self.answering
        if answering is None or request_id != answering.request_id:
            return
        if isinstance(item, TokenRun):
            answering.prefill = None
            answering.text += item.text
            self._view.append(answering.turn.id, item.text)
            self._writer.append(answering.turn.id, item.text)
        elif isinstance(item, Stats):
            self.stats = item
        elif isinstance(item, PrefillProgress):
            answering.prefill = item
        elif isinstance(item, Notice):
            self._notice(item.message)
        elif isinstance(item, Done):
            self.stats = item
            self._finish_done(answering, item)
        elif isinstance(item, Failed):
            self._finish_failed(answering, item.message, item.hint)
        self._changed()

    def engine_lost(self, message: str) -> None:
        """The engine ended while it answered."""
        if self.answering is not None:
            self._finish_failed(self.answering, message, "", tell=False)
        self._changed()

    def close(self) -> None:
        """The app closes: what streams is kept as far as it came."""
        if self.answering is not None:
            self.engine.cancel(self.answering.request_id)
            self._left[self.answering.request_id] = self.answering
            self.answering = None
        for answering in self._left.values():
            text = answering.prefix + answering.text
            self._writer.finish(
                answering.turn.id, "stopped", text, None, "quantchat was closed while it streamed"
            )
        self._left.clear()

    def _leave(self) -> None:
        """Stop without waiting; the rest of the answer goes to the store alone."""
        answering = self.answering
        if self.stop() and answering is not None:
            self._left[answering.request_id] = answering
            self.answering = None

    def _take_left(self, answering: Answering, item: Item) -> None:
        if isinstance(item, TokenRun):
            answering.text += item.text
            self._writer.append(answering.turn.id, item.text)
        elif isinstance(item, Done | Failed):
            done = isinstance(item, Done)
            text = answering.prefix + answering.text
            note = ENDINGS[item.finish_reason] if isinstance(item, Done) else item.message
            metrics = kept(item.metrics) if isinstance(item, Done) else None
            whole = isinstance(item, Done) and item.finish_reason == "stop"
            state: TurnState = "complete" if whole else "stopped" if done else "failed"
            self._writer.finish(answering.turn.id, state, text, metrics, note)
            del self._left[answering.request_id]

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
        info, chat, settings = self._model(), self.chat, self._settings()
        assert info is not None and chat is not None
        parent = self.path[-1].id
        turn = self._chats.add_turn(
            chat.id,
            parent,
            "assistant",
            prefix,
            state="streaming",
            model=info.model,
            scheme=info.scheme,
            kv=info.kv,
        )
        messages = [Message(each.role, each.content) for each in self.path if each.content]
        if chat.system_prompt:
            messages.insert(0, Message("system", chat.system_prompt))
        if prefix:
            messages.append(Message("assistant", prefix))
        shown = drawn(turn)
        shown.state = "streaming" if prefix else "waiting"
        self._view.add(shown)
        request = ChatRequest(
            messages=tuple(messages),
            sampling=settings.sampling(),
            max_tokens=settings.max_tokens,
            continue_last=bool(prefix),
        )
        self.path.append(turn)
        self.answering = Answering(request_id=0, turn=turn, drawn=shown, prefix=prefix)
        try:
            self.answering.request_id = self.engine.chat(request)
        except QuantchatError as error:
            self._finish_failed(self.answering, error.message, error.hint)
        self._changed()

    def _finish_done(self, answering: Answering, done: Done) -> None:
        text = answering.prefix + (answering.text if answering.prefix else done.text)
        metrics = kept(done.metrics)
        ending = ENDINGS[done.finish_reason]
        state: TurnState = "complete" if done.finish_reason == "stop" else "stopped"
        self._writer.finish(answering.turn.id, state, text, metrics, ending)
        self._close(answering, text, state, answer_line(metrics, ending))

    def _finish_failed(
        self, answering: Answering, message: str, hint: str, *, tell: bool = True
    ) -> None:
        text = answering.prefix + answering.text
        self._writer.finish(answering.turn.id, "failed", text, None, message)
        self._close(answering, text, "failed", f"failed: {message}")
        if tell:
            self._failed(message, hint)

    def _close(self, answering: Answering, text: str, state: TurnState, figures: str) -> None:
        self.answering = None
        shown = answering.drawn
        shown.text, shown.figures = text, figures
        shown.state = (
            "done" if state == "complete" else "failed" if state == "failed" else "stopped"
        )
        self._view.update(shown)
        self.path[-1] = replace(answering.turn, content=text, state=state)

    def _notice(self, message: str) -> None:
        log.info("notice: %s", message)
        assert self.answering is not None
        turn = Turn(key=-1, role="notice", text=message)
        self._view.add(turn, before=self.answering.turn.id)


def drawn(turn: StoredTurn) -> Turn:
    """A stored turn as the transcript draws it."""
    label = " · ".join(
        part for part in (model_name(turn.model), turn.scheme, turn.kv and f"kv {turn.kv}") if part
    )
    state = {"complete": "done", "stopped": "stopped", "failed": "failed", "streaming": "stopped"}
    figures = answer_line(turn.metrics or {}, turn.note)
    return Turn(
        key=turn.id,
        role="user" if turn.role == "user" else "assistant",
        text=turn.content,
        label=label or "answer",
        figures=figures if turn.role == "assistant" else "",
        state=state[turn.state],  # type: ignore[arg-type]
        version=turn.version + 1,
        versions=turn.versions,
    )


def _request_of(item: Item) -> int | None:
    if isinstance(item, TokenRun | Stats | PrefillProgress | Notice | Done | Failed):
        return item.request_id
    return None
