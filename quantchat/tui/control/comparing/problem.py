"""What went wrong side by side, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quantchat.requests import WayOut
from quantchat.tui.control.comparing.side import SideName


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A load, an answer or a scoring that came to nothing."""

    kind: Literal["load", "answer", "score"]
    side: SideName | None
    """None while nobody may know which."""
    message: str
    hint: str
    ways: tuple[WayOut, ...] = ()
    """Loads that would do instead."""
