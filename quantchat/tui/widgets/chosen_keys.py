"""The bottom line while a turn is chosen."""

from __future__ import annotations

from typing import Any

from textual.app import App

from quantchat.tui.keymap import bounds_of, keys_of, short_key
from quantchat.tui.widgets.bars import Key
from quantchat.tui.widgets.transcript import Transcript

SAID = (
    ("wish('edit')", "edit"),
    ("wish('copy')", "copy"),
    ("wish('previous')", "version before"),
    ("wish('next')", "after"),
    ("fold_chosen", "fold"),
    ("wish('leave')", "back"),
)
"""What the line says of each binding."""


def chosen_keys(app: App[Any]) -> list[Key]:
    """Keys as they are now; a click does the same."""
    now = {bound.action: keys_of(app, bound)[0] for bound in bounds_of(Transcript)}
    return [
        Key(key=short_key(now[action]), text=text, action=f"screen.chosen({action!r})")
        for action, text in SAID
    ]
