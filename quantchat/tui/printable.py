"""Text of files and models on a single line: nothing in it moves the cursor of the terminal."""

from __future__ import annotations

import re

_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """The text with a blank for each character that is not shown."""
    return _CONTROLS.sub(" ", text)
