"""How long one conversation's template may run, and how much it may make on the way.

Owns the counting. Where something is counted is the sandbox's.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from jinja2.exceptions import SecurityError

FREE_CHARS = 1 << 20
CHARS_EACH = 32
"""Characters that a template may make, for each of the conversation's."""
MOST_S = 0.25
S_EACH = 2e-6
"""Seconds of this thread's time, for all and for each of the conversation's characters."""
ITEM_CHARS = 2
"""What an entry of a list counts as."""
MOST_ITEMS = 50_000
MOST_DEPTH = 64
TOO_MUCH = "makes too much out of the conversation"


class Budget(threading.local):
    """What is left to the template that this thread runs."""

    def __init__(self) -> None:
        self.start(0)

    def start(self, chars: int) -> None:
        """Begin anew, for a conversation of so many characters."""
        self._most_chars = self._chars = FREE_CHARS + CHARS_EACH * chars
        self._until_s = time.thread_time() + MOST_S + S_EACH * chars

    def step(self) -> None:
        """Raises SecurityError where time is up."""
        if time.thread_time() > self._until_s:
            raise SecurityError("takes too long")

    def spend(self, chars: int) -> None:
        """Raises SecurityError where so many characters are more than may still be made."""
        self._chars -= chars
        if self._chars < 0:
            raise SecurityError(TOO_MUCH)
        self.step()

    def watch(self, value: Any) -> Any:
        """The value; raises SecurityError where it is too large, or nested too deeply."""
        if isinstance(value, str):
            self.spend(len(value))
        elif isinstance(value, list | tuple | dict):
            self.spend(ITEM_CHARS * len(value))
            self._weigh(value)
        return value

    def _weigh(self, value: Any) -> None:
        """What is in it counts as often as it is in it: printing would write it that often."""
        left, chars = MOST_ITEMS, self._most_chars
        todo = [(value, 0)]
        while todo:
            each, depth = todo.pop()
            if isinstance(each, str):
                chars -= len(each)
            elif isinstance(each, list | tuple | dict):
                inner = [*each, *each.values()] if isinstance(each, dict) else each
                left -= len(inner)
                if left < 0 or depth > MOST_DEPTH:
                    raise SecurityError(TOO_MUCH)
                todo += [(item, depth + 1) for item in inner]
            if chars < 0:
                raise SecurityError(TOO_MUCH)
