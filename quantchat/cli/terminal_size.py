"""A terminal that does not know its size gets one.

Consoles on a serial line and ptys of tools say 0 x 0. What draws guesses in two ways there, 24 rows and
25, and each guess is a resize to the other: frames without end, and no key is taken.
"""

from __future__ import annotations

import contextlib
import os
import sys

ROWS, COLUMNS = 24, 80


def give_size(fd: int) -> None:
    """Tell the terminal the usual size where it has none; who knows better may still do so."""
    if sys.platform == "win32":
        return
    import termios

    with contextlib.suppress(OSError, termios.error):
        if 0 in os.get_terminal_size(fd):
            termios.tcsetwinsize(fd, (ROWS, COLUMNS))
