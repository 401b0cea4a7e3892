"""Toasts that have been read, or would stand before what was asked for since."""

from __future__ import annotations

from textual.app import App
from textual.widgets._toast import ToastHolder, ToastRack


def take_down_news(app: App[None]) -> None:
    """Take down toasts that only inform; warnings and errors stay their time."""
    for each in list(app._notifications):
        if each.severity == "information":
            app._unnotify(each, refresh=False)
    app._refresh_notifications()
    # Textual removes the toast of what is gone, and leaves what held it for good.
    kept = {ToastRack._toast_id(each) for each in app._notifications}
    for screen in app.screen_stack:
        for holder in screen.query(ToastHolder):
            if holder.id not in kept:
                holder.remove()
