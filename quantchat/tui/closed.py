"""Lets go of what Textual keeps of closed screens.

A cache of border colours holds the drawn rows of the latest thousand widgets, and a text area
watches the theme until it changes: tens of megabytes over a day.
"""

from __future__ import annotations

from textual._styles_cache import StylesCache
from textual.app import App


def forget_closed(app: App[None]) -> None:
    """Called when a screen was taken away."""
    StylesCache.get_inner_outer.cache_clear()
    for watchers in vars(app).get("__watchers", {}).values():
        watchers[:] = [each for each in watchers if not each[0]._closing]
