"""Toasts that have been read, or would stand before what was asked for since."""

from __future__ import annotations

from textual.app import App


def take_down_news(app: App[None]) -> None:
    """Take down toasts that only inform; warnings and errors stay their time."""
    for each in list(app._notifications):
        if each.severity == "information":
            app._unnotify(each, refresh=False)
    app._refresh_notifications()
