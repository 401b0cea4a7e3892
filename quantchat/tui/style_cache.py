"""Textual's cache of rendered styles, kept small.

Words that can be clicked have a style of their own in every message: without an end to them the
cache would hold those of the last few thousand messages, tens of megabytes.
"""

from __future__ import annotations

from textual.strip import Strip

STYLES_KEPT = 2048


def trim() -> None:
    """Forget them where they are many; those in use are there again with the next picture."""
    rendered = Strip.render_ansi
    if rendered.cache_info().currsize > STYLES_KEPT:
        rendered.cache_clear()
