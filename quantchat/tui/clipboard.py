"""Text to the user's clipboard by every way that may reach it.

OSC 52 through the terminal (wrapped for tmux), tmux itself, and the local tool of the platform.
tmux passes neither sequence on as it is usually set up, but takes a text from its own command. The
terminal gives no answer, so what is said afterwards names the ways tried, not a success nobody saw.
"""

from __future__ import annotations

import base64
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

log = logging.getLogger(__name__)

OSC52_LIMIT_BYTES = 74_994
"""What xterm and tmux take; longer texts only go to local tools."""
TOOL_TIMEOUT_S = 2.0
TMUX: tuple[str, ...] = ("tmux", "load-buffer", "-w", "-")
"""Into tmux's buffer, and from there to the terminal that tmux runs in."""


def sequence(text: str, *, tmux: bool) -> str | None:
    """The OSC 52 sequence for a text, or None when it is too long for a terminal."""
    data = base64.b64encode(text.encode()).decode()
    if len(data) > OSC52_LIMIT_BYTES:
        return None
    plain = f"\x1b]52;c;{data}\a"
    return f"\x1bPtmux;\x1b{plain}\x1b\\" if tmux else plain


def local_tool() -> tuple[str, ...] | None:
    """The command that takes a text on its stdin, where there is one."""
    tools: list[tuple[str, ...]] = []
    if sys.platform == "darwin":
        tools.append(("pbcopy",))
    elif sys.platform == "win32":
        tools.append(("clip",))
    else:
        if os.environ.get("WAYLAND_DISPLAY"):
            tools.append(("wl-copy",))
        if os.environ.get("DISPLAY"):
            tools += [("xclip", "-selection", "clipboard"), ("xsel", "--clipboard", "--input")]
        if "microsoft" in os.uname().release.lower():
            tools.append(("clip.exe",))
    return next((tool for tool in tools if shutil.which(tool[0])), None)


def tools() -> list[tuple[str, ...]]:
    """Every command that takes the text: tmux's where this runs in it, and the local tool."""
    found = [TMUX] if os.environ.get("TMUX") and shutil.which("tmux") else []
    tool = local_tool()
    return [*found, tool] if tool is not None else found


def copy(text: str, write: Callable[[str], None]) -> str:
    """Copy, and say how; `write` sends a sequence to the terminal. Blocks up to two seconds a way."""
    ways = []
    tmux = bool(os.environ.get("TMUX"))
    osc = sequence(text, tmux=tmux)
    if osc is not None:
        write(osc)
        if tmux:
            write(osc[len("\x1bPtmux;\x1b") : -len("\x1b\\")])
        ways.append("the terminal (OSC 52)")
    for tool in tools():
        try:
            subprocess.run(
                tool, input=text.encode(), check=True, timeout=TOOL_TIMEOUT_S, capture_output=True
            )
            ways.append(tool[0])
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("%s did not take the text: %s", tool[0], error)
    return " and ".join(ways)


def copied(text: str, what: str, to_terminal: Callable[[str], None]) -> tuple[str, bool]:
    """Copy a text and say what came of it; whether there was a way at all."""
    ways = copy(text, to_terminal)
    size = f"{len(text):,} characters"
    if ways:
        return f"Copied the {what} ({size}) through {ways}.", True
    return (
        f"The {what} ({size}) is too long for the terminal, and no clipboard tool was found: "
        "install xclip, xsel or wl-clipboard."
    ), False
