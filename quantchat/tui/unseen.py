"""What of a text must never reach the terminal: characters that would steer it.

Models, files and titles may hold escape sequences; written out, they would move the cursor, change
colours or fill the clipboard. Every row of every widget passes here. None of these characters takes
a cell, so that rows keep their widths.
"""

from __future__ import annotations

import re

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_STEERS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Unseen(LineFilter):
    """Takes control characters and overrides of the writing direction out of drawn rows."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The row itself where there are none, which is nearly always."""
        if not any(_STEERS.search(segment.text) for segment in segments):
            return segments
        return [
            segment
            if segment.control
            else Segment(_STEERS.sub("", segment.text), segment.style, segment.control)
            for segment in segments
        ]


UNSEEN = Unseen()
