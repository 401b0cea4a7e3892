"""Writes answers to the store while they stream, off the event loop.

One thread, in order, without delay: the bridge has put the text together already, and what comes
during a commit waits for the next. Errors are handed back once, not once per token; a whole text
that the store refused, of a full disk say, is tried again with the next one and at the end.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from quantchat.errors import StoreError
from quantchat.store.chats import Chats
from quantchat.store.db import BUSY_TIMEOUT_S
from quantchat.store.records import Figures, TurnState

log = logging.getLogger(__name__)

CLOSE_S = BUSY_TIMEOUT_S + 5.0
"""Another process may hold the file as long as the store waits for it."""
LATE_KEPT = 50
"""Texts that the store refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finish:
    turn_id: int
    state: TurnState
    content: str
    metrics: Figures | None
    note: str


class TurnWriter:
    """Takes text from the event loop and commits it in its own thread."""

    def __init__(self, chats: Chats, on_error: Callable[[StoreError], None]) -> None:
        self._chats = chats
        self._on_error = on_error
        self._queue: SimpleQueue[tuple[int, str] | _Finish | threading.Event | None] = SimpleQueue()
        self._broken: set[int] = set()
        self._late: dict[int, _Finish] = {}
        """What is to be tried again, by turn."""
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def append(self, turn_id: int, text: str) -> None:
        """More text of a streaming turn."""
        self._queue.put((turn_id, text))

    def finish(
        self, turn_id: int, state: TurnState, content: str, metrics: Figures | None, note: str = ""
    ) -> None:
        """All of the turn's text."""
        self._queue.put(
            _Finish(turn_id=turn_id, state=state, content=content, metrics=metrics, note=note)
        )

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until everything given so far is committed; False when the time ran out."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout_s)

    def close(self) -> None:
        """Commit what is left and end the thread."""
        self._queue.put(None)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            texts: dict[int, list[str]] = {}
            while True:
                if isinstance(item, tuple):
                    texts.setdefault(item[0], []).append(item[1])
                else:
                    self._commit(texts)
                    texts = {}
                    self._finish_late()
                    if item is None:
                        return
                    if isinstance(item, threading.Event):
                        item.set()
                    else:
                        self._finish(item)
                try:
                    item = self._queue.get_nowait()
                except Empty:
                    break
            self._commit(texts)

    def _commit(self, texts: dict[int, list[str]]) -> None:
        for turn_id, parts in texts.items():
            if turn_id in self._broken:
                continue
            try:
                self._chats.append_text(turn_id, "".join(parts))
            except StoreError as error:
                self._broken.add(turn_id)
                log.error("turn %d is not saved: %s", turn_id, error)
                self._on_error(error)

    def _finish(self, item: _Finish) -> None:
        error = self._refused(item)
        if error is not None:
            log.error("turn %d is not finished: %s", item.turn_id, error)
            if _may_pass(error) and len(self._late) < LATE_KEPT:
                self._late[item.turn_id] = item
            if item.turn_id not in self._broken:
                self._on_error(error)
        self._broken.discard(item.turn_id)

    def _finish_late(self) -> None:
        """Once the file refuses one again, so it would the others."""
        for turn_id, item in list(self._late.items()):
            error = self._refused(item)
            if error is not None and _may_pass(error):
                return
            del self._late[turn_id]

    def _refused(self, item: _Finish) -> StoreError | None:
        try:
            self._chats.finish_turn(
                item.turn_id, item.state, item.content, item.metrics, note=item.note
            )
        except StoreError as error:
            return error
        return None


def _may_pass(error: StoreError) -> bool:
    """Trouble of the file; a turn that is gone stays so."""
    return isinstance(error.__cause__, sqlite3.Error)
