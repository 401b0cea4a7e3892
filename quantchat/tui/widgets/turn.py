"""One turn of a conversation as the transcript knows it, and text that can be clicked.

What a turn looks like belongs to `drawn_turn`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from textual.content import Content
from textual.style import Style

from quantchat.store.records import Attachment

State: TypeAlias = Literal["waiting", "streaming", "done", "stopped", "failed"]
ACTION = "quantchat_action"
"""Key of the meta data that names the action of a clickable text."""


@dataclass(slots=True, kw_only=True)
class Turn:
    """What is known of a turn; the transcript redraws it when it is told that it changed."""

    key: int
    role: Literal["user", "assistant", "notice"]
    text: str
    label: str = ""
    figures: str = ""
    """Tokens, speed, why it ended; shown below an answer."""
    state: State = "done"
    version: int = 1
    versions: int = 1
    attachments: tuple[Attachment, ...] = ()
    editable: bool = False
    """Offers to be edited."""
    thought_tokens: int = 0
    """Tokens of its reasoning so far; 0 when not known."""
    thought_s: float = 0.0


def click(text: str, action: str, style: Style) -> Content:
    """Text that runs an action when it is clicked; not a link, so it keeps its own style."""
    return Content.styled(text, style + Style.from_meta({ACTION: action}))
