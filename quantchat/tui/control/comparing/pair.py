"""Two models in two slots: loaded one after the other, together where both fit, else in turns.

Owns the loads and the seat when there is one for two. Knows nothing of prompts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from quantchat.comparing.turns import beside, must_take_turns
from quantchat.engine.api import Engine
from quantchat.errors import QuantchatError
from quantchat.events import Loaded, LoadFailed, LoadProgress, Unloaded
from quantchat.settings.model import Settings
from quantchat.tui.control.comparing.problem import Problem
from quantchat.tui.control.comparing.side import Choice, Side

CANCELLED = "loading was cancelled"


class ChatModel(Protocol):
    """The chat's own model, which may give its room for a while."""

    def lend(self) -> bool:
        """Unload it; False where there is nothing to unload."""

    @property
    def gone(self) -> bool:
        """Whether its memory is given back."""


class Pair:
    """Both sides' loads; `settled` is called when one has ended and nothing else is on its way."""

    def __init__(
        self,
        engine: Engine,
        sides: tuple[Side, Side],
        chat: ChatModel,
        *,
        settings: Callable[[], Settings],
        changed: Callable[[], None],
        settled: Callable[[], None],
        failed: Callable[[Problem], None],
        taken_back: Callable[[Side], None],
    ) -> None:
        self._engine = engine
        self.sides = sides
        self._chat = chat
        self._settings = settings
        self._changed = changed
        self._settled = settled
        self._failed = failed
        self._taken_back = taken_back
        self._queue: deque[Side] = deque()
        self._loading: Side | None = None
        self._after_unload: Side | None = None
        self._after_chat: Side | None = None
        self.taking_turns = False
        """Both do not fit at once."""
        self.why = ""
        """What the plan or the device said when the second one was refused."""
        self.lent = False
        """The chat's model had to go."""

    @property
    def ready(self) -> bool:
        """Whether a prompt can be begun."""
        return not self.busy and (
            all(side.loaded for side in self.sides)
            or (self.taking_turns and any(side.loaded for side in self.sides))
        )

    @property
    def busy(self) -> bool:
        """Whether a model is on its way."""
        return bool(
            self._loading is not None or self._queue or self._after_unload or self._after_chat
        )

    def other(self, side: Side) -> Side:
        """The one beside it."""
        left, right = self.sides
        return right if side is left else left

    def open(self) -> None:
        """Bring in what is missing; both, one after the other, unless they take turns."""
        if self.busy or (self.taking_turns and any(side.loaded for side in self.sides)):
            return
        self._queue += [side for side in self.sides if not side.loaded]
        self._pump()

    def choose(self, side: Side, choice: Choice) -> None:
        """Another model for a side; both are tried together again."""
        side.choice = side.wish = choice
        side.problem = ""
        self.taking_turns, self.why = False, ""
        if self._loading is side:
            self._loading = None
        self._after_unload = None
        self._queue = deque([side, *(each for each in self._queue if each is not side)])
        other = self.other(side)
        if not other.loaded and other not in (self._loading, self._after_chat, *self._queue):
            self._queue.append(other)
        if self._after_chat is side:
            self._after_chat = None
        self._pump()

    def bring(self, side: Side) -> None:
        """The seat for a side: the other one goes first. Only while they take turns."""
        assert self.taking_turns
        if self.busy or side.loaded:
            return
        other = self.other(side)
        if other.loaded:
            self._after_unload = side
            self._engine.unload(other.slot)
            self._changed()
        else:
            self._queue.append(side)
            self._pump()

    def cancel(self) -> bool:
        """Give up what is on its way; False when nothing is."""
        if not self.busy:
            return False
        for side in [*self._queue, self._after_unload, self._after_chat]:
            if side is not None:
                side.problem = CANCELLED
        self._queue.clear()
        self._after_unload = self._after_chat = None
        if self._loading is not None:
            self._engine.cancel_load(self._loading.slot)
        self._changed()
        return True

    def close(self) -> None:
        """Give both up, and the memory back."""
        self._queue.clear()
        self._after_unload = self._after_chat = None
        for side in self.sides:
            side.load_id = 0
            self._engine.unload(side.slot)

    def tick(self) -> None:
        """Go on once the chat's model has gone."""
        side = self._after_chat
        if side is not None and self._chat.gone:
            self._after_chat = None
            self._queue.appendleft(side)
            self._pump()

    def take(self, side: Side, event: LoadProgress | Loaded | LoadFailed | Unloaded) -> None:
        """An event of a side's slot."""
        if isinstance(event, Unloaded):
            side.emptied()
            waits = self._after_unload
            if waits is not None and waits is not side:
                self._after_unload = None
                self._queue.append(waits)
                self._pump()
            return
        if event.load_id != side.load_id:
            return
        if isinstance(event, LoadProgress):
            side.progress = event
            return
        side.progress, side.load_id = None, 0
        if self._loading is side:
            self._loading = None
        if isinstance(event, Loaded):
            side.info, side.memory, side.loaded = event.info, event.memory, True
            side.worked = side.choice
        elif not event.cancelled and event.lacks_memory and self._make_room(side, event):
            pass
        else:
            self._load_failed(side, event)
        self._pump()
        if not self.busy:
            self._settled()

    def lost(self, message: str) -> None:
        """The engine ended."""
        self._queue.clear()
        self._loading = self._after_unload = self._after_chat = None
        for side in self.sides:
            side.emptied()
            side.progress, side.load_id, side.problem = None, 0, message

    def _make_room(self, side: Side, event: LoadFailed) -> bool:
        """Whether there is a way to have both all the same."""
        if self.taking_turns:
            return False
        other = self.other(side)
        if self._chat.lend():
            self.lent = True
            self._after_chat = side
            return True
        if must_take_turns(event, other_loaded=other.loaded):
            self.taking_turns, self.why = True, event.message
            if side.loaded:
                self._engine.unload(side.slot)
            side.emptied()
            if side.worked != side.choice:
                side.info = None
            return True
        return False

    def _load_failed(self, side: Side, event: LoadFailed) -> None:
        side.problem = CANCELLED if event.cancelled else event.message
        if side.loaded:
            side.problem = ""
            side.back_to_what_worked()
            self._taken_back(side)
        if not event.cancelled:
            self._failed(
                Problem(
                    kind="load",
                    side=side.name,
                    message=event.message,
                    hint=event.hint,
                    ways=event.ways,
                )
            )

    def _pump(self) -> None:
        if self._loading is None and self._queue and self._after_chat is None:
            side = self._queue.popleft()
            side.problem, side.progress = "", None
            request = side.choice.request(self._settings(), side.slot)
            beside_it = self.other(side).info
            if beside_it is not None:
                request = beside(request, beside_it)
            try:
                side.load_id = self._engine.load(request)
                self._loading = side
            except QuantchatError as error:
                side.problem = error.message
                self._failed(
                    Problem(kind="load", side=side.name, message=error.message, hint=error.hint)
                )
        self._changed()
