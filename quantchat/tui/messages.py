"""What screens and widgets tell each other; engine events stay in `quantchat.events`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from quantchat.events import Event
from quantchat.requests import Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRun:
    """All text of one request within one flush."""

    request_id: int
    slot: Slot
    text: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    """The text of each token."""


Item: TypeAlias = TokenRun | Event
"""What the bridge hands on: tokens put together, everything else as it came."""
