"""How soon after a frame Textual may draw the next; it reads that when it is imported.

Its timer waits one to two periods: at its own 60 frames a second a key that comes right behind a
frame is answered 33 ms later. What streams draws as often as before, for it is bundled.
"""

from __future__ import annotations

import os

FRAMES_PER_S = 120


def set_rate() -> None:
    """Before Textual is imported; what the environment says already holds."""
    os.environ.setdefault("TEXTUAL_FPS", str(FRAMES_PER_S))
