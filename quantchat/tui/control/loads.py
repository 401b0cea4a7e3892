"""Which model answers in the main slot, and what is on its way there.

Owns the states from "not on disk" to "ready" and the way back to the last choice that worked.
The old model answers until the new one is ready; the engine sees to that. A model that must be
fetched first is waited for: nothing else is held up by it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from quantchat.engine.api import Engine
from quantchat.errors import QuantchatError
from quantchat.events import Loaded, LoadFailed, LoadProgress, MemoryUse, ModelInfo, Unloaded
from quantchat.quant.registry import SCHEMES
from quantchat.requests import LoadRequest, WayOut
from quantchat.tui.control.library import Library, ModelRow
from quantchat.tui.control.transfers import UNDER_WAY, News, Transfer, Transfers

log = logging.getLogger(__name__)

State: TypeAlias = Literal["idle", "looking", "missing", "fetching", "loading", "ready", "failed"]
SLOT = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why nothing was loaded, in words."""

    message: str
    hint: str
    cancelled: bool = False
    """The user wanted it so."""
    from_engine: bool = False
    """The model was found, but could not be loaded."""
    ways: tuple[WayOut, ...] = ()
    """Loads that would do instead."""


class Loads:
    """The main slot. `changed` is called after every step; `failed` when a load did not work."""

    def __init__(
        self,
        engine: Engine,
        library: Library,
        transfers: Transfers,
        *,
        in_thread: Callable[[Callable[[], None]], None],
        on_loop: Callable[[Callable[[], None]], None],
        changed: Callable[[], None],
        failed: Callable[[Problem, LoadRequest], None],
        waits: Callable[[str], None] = lambda _: None,
        revive: Callable[[], bool] = lambda: False,
    ) -> None:
        self.engine = engine
        self.library = library
        self.transfers = transfers
        self._in_thread = in_thread
        self._on_loop = on_loop
        self._changed = changed
        self._failed = failed
        self._waits = waits
        """Told of a model that is fetched while the old one answers."""
        self._revive = revive
        self.state: State = "idle"
        self.info: ModelInfo | None = None
        self.memory: MemoryUse | None = None
        self.replaced: ModelInfo | None = None
        """What answered when the latest load began."""
        self.wanted: LoadRequest | None = None
        """What is being brought in, or was asked for last."""
        self.answering: LoadRequest | None = None
        """The request behind `info`."""
        self.progress: LoadProgress | None = None
        self.row: ModelRow | None = None
        """The wanted model as the library knows it."""
        self.awaited = ""
        """What is to be loaded when it came, while another model answers."""
        self.awaited_scheme = ""
        """Chosen along with it; "" for that of the settings."""
        self.problem: Problem | None = None
        self.engine_gone = False
        """The engine ended by itself; the next load needs a fresh one."""
        self._load_id = 0
        self._fetch_missing = False

    @property
    def ready(self) -> bool:
        """Whether the slot answers."""
        return self.info is not None

    @property
    def busy(self) -> bool:
        """Whether something is on its way."""
        return self.state in ("looking", "fetching", "loading")

    @property
    def transfer(self) -> Transfer | None:
        """The download that the slot waits for."""
        name = self.awaited or (self.row.name if self.state == "fetching" and self.row else "")
        return self._transfer(name) if name else None

    @property
    def calibrated(self) -> bool:
        """Whether what answers was made by looking at calibration text."""
        scheme = None if self.info is None else SCHEMES.get(self.info.scheme)
        return scheme is not None and scheme.calibration != "none"

    def want(self, request: LoadRequest, *, fetch: bool = False) -> None:
        """Bring a model in: look for it, then load it; fetch it first, or say that it is missing."""
        if self.engine_gone and not self._revive():
            return
        self._give_up_pending()
        if self.answering is None or request.model != self.answering.model:
            self.awaited = ""
        self._fetch_missing = fetch
        self.wanted, self.problem = request, None
        self._set("looking")

        def look() -> None:
            try:
                row, problem = self.library.find(request.model), None
            except QuantchatError as error:
                row, problem = None, Problem(message=error.message, hint=error.hint)
            except Exception as error:
                log.exception("looking for %s", request.model)
                message = f"{request.model}: {type(error).__name__}: {error}"
                row, problem = None, Problem(message=message, hint="the log has the details")
            self._on_loop(lambda: self._found(request, row, problem))

        self._in_thread(look)

    def fetch(self) -> None:
        """Fetch the wanted model, then load it."""
        if self.wanted is None or self.row is None or self.state not in ("missing", "failed"):
            return
        self.transfers.add([self.row.name], first=True)
        self.problem = None
        if self.info is not None and self.info.model != self.row.name:
            other = self.answering is None or self.wanted.scheme != self.answering.scheme
            self.awaited_scheme = self.wanted.scheme if other else ""
            self.awaited, self.wanted = self.row.name, self.answering
            self._set("ready")
            self._waits(self.awaited)
        else:
            self._set("fetching")

    def poll(self) -> None:
        """See whether a missing model is on its way; called a few times a second."""
        if self.state != "missing" or self.row is None:
            return
        # Asked for in the list of models, or left by the last start.
        line = self._transfer(self.row.name)
        waits = line is not None and line.phase == "waiting"
        if line is not None and line.phase in UNDER_WAY and not (waits and self.problem):
            self.problem = None
            self._set("fetching")

    def hear(self, news: News) -> bool:
        """What became of a download; True where this told the user."""
        slot_waits = self.state in ("fetching", "missing")
        if slot_waits and self.row is not None and self.row.name == news.name:
            request = self.wanted
            assert request is not None
            if news.what == "came":
                self.want(request)
                return True
            if self.state == "fetching" and news.what in ("failed", "stopped", "dropped"):
                self._not_fetched(news, request)
                return True
        elif self.awaited == news.name and news.what in ("stopped", "dropped", "failed"):
            if not news.again:
                self.awaited = ""
            self._changed()
        return False

    def cancel(self) -> bool:
        """Give up what is on its way; False when nothing is."""
        if self.state == "fetching" and self.row is not None:
            self.transfers.stop(self.row.name)
        elif self.state == "loading":
            self.engine.cancel_load(SLOT)
        else:
            return False
        self._changed()
        return True

    def take(self, event: LoadProgress | Loaded | LoadFailed | Unloaded) -> None:
        """An event of the main slot."""
        if isinstance(event, Unloaded):
            self.info = self.answering = None
            # What is on its way comes all the same.
            self._set("idle" if self.state == "ready" else self.state)
            return
        if event.load_id != self._load_id:
            return
        if isinstance(event, LoadProgress):
            self.progress = event
            self._changed()
        elif isinstance(event, Loaded):
            self.info, self.memory = event.info, event.memory
            self.answering, self.progress = self.wanted, None
            self._set("ready")
        else:
            self._load_failed(event)

    def lost(self, message: str, hint: str) -> None:
        """The engine is gone, and the model with it."""
        self.engine_gone = True
        self.info = self.answering = self.progress = None
        self.problem = Problem(message=message, hint=hint)
        self._set("failed")

    def forget(self, engine: Engine) -> None:
        """The engine is gone; go on with a fresh one."""
        self.engine_gone = False
        self.engine = engine
        self.info = self.answering = self.progress = None
        self._load_id = 0
        self._set("idle")

    def _found(self, request: LoadRequest, row: ModelRow | None, problem: Problem | None) -> None:
        if request is not self.wanted or self.state != "looking":
            return
        self.row = row
        if problem is None and row is None:
            problem = Problem(
                message=f"no model is called {request.model!r}",
                hint="choose one from the list of models, or give a folder, file or repository id",
            )
        if problem is not None:
            self.problem = problem
            self._set("ready" if self.ready else "failed")
            self._failed(problem, request)
        elif row is not None and not row.on_disk:
            self._set("missing")
            if self._fetch_missing:
                self.fetch()
        else:
            self.progress, self.replaced = None, self.info
            try:
                self._load_id = self.engine.load(request)
            except QuantchatError as error:
                self.problem = Problem(message=error.message, hint=error.hint)
                self._set("failed")
                self._failed(self.problem, request)
                return
            self._set("loading")

    def _load_failed(self, event: LoadFailed) -> None:
        self.progress = None
        request = self.wanted
        assert request is not None
        if event.cancelled:
            hint = "choose another scheme or model, or try again"
            self.problem = Problem(message="loading was cancelled", hint=hint, cancelled=True)
        else:
            self.problem = Problem(
                message=event.message, hint=event.hint, from_engine=True, ways=event.ways
            )
        self.wanted = self.answering or request
        self._set("ready" if self.ready else "failed")
        self._failed(self.problem, request)

    def _give_up_pending(self) -> None:
        if self.state == "loading":
            self._load_id = 0
            self.engine.cancel_load(SLOT)

    def _not_fetched(self, news: News, request: LoadRequest) -> None:
        if news.what == "failed":
            self.problem = Problem(message=news.message, hint=news.hint)
        else:
            self.problem = Problem(message="the download was stopped", hint="", cancelled=True)
        self._set("missing")
        if news.what == "failed":
            self._failed(self.problem, request)

    def _transfer(self, name: str) -> Transfer | None:
        return next((line for line in self.transfers.rows() if line.name == name), None)

    def _set(self, state: State) -> None:
        self.state = state
        self._changed()
