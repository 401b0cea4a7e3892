"""The user's own keys while the app runs: read, checked, put in place; the keys as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantchat.settings.keys import load_keys
from quantchat.tui.keymap import checked, key_of, long_key, short_key

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp


class OwnKeys:
    """The table [keys] of the settings file, as Textual's keymap."""

    def __init__(self, app: QuantchatApp) -> None:
        self._app = app

    def read(self) -> None:
        """Take the keys out of the file; says what cannot be used."""
        app = self._app
        path = app.preferences.path
        keys, warnings = ({}, []) if path is None else load_keys(path)
        if keys:
            keys, problems = checked(type(app), keys)
            warnings += problems
        app.set_keymap(keys)
        for warning in warnings:
            app.notify(warning, severity="warning", timeout=12)

    def long_name(self, action: str) -> str:
        """As `name`, in full: Ctrl+R."""
        key = key_of(self._app, type(self._app.chat_screen), action)
        return long_key(key) if key else ""

    def name(self, action: str) -> str:
        """The key of an action of the chat or of the app, as it is now; "" for none."""
        key = key_of(self._app, type(self._app.chat_screen), action)
        return short_key(key) if key else ""
