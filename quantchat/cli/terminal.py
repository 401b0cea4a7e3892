"""Text of models, files and hubs on its way to a terminal: nothing in it may steer it.

Into files and pipes everything goes as it is.
"""

from __future__ import annotations

import re
from typing import TextIO

_STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tabs and line ends, and overrides of the writing direction."""


def harmless(text: str, stream: TextIO) -> str:
    """The text as that stream may have it."""
    return _STEERS.sub("", text) if stream.isatty() else text
