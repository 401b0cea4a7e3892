"""A text through the user's own editor.

Blocks while the editor has the terminal; the file is gone afterwards, whatever happens.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from quantchat.errors import QuantchatError

log = logging.getLogger(__name__)

TEXT_BYTES = 4 << 20
"""Longest text that is taken back."""
USUAL = ("sensible-editor", "nano", "vim", "vi")
VARIABLES = ("VISUAL", "EDITOR")


class EditorError(QuantchatError):
    """The editor could not be used; the text is as it was."""


def editor_command(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The user's editor with its options; raises EditorError where there is none."""
    for name in VARIABLES:
        words = environment.get(name, "").strip()
        if not words:
            continue
        try:
            command = shlex.split(words)
        except ValueError as error:
            raise EditorError(f"${name} cannot be read: {error}") from error
        if shutil.which(command[0]) is None:
            raise EditorError(f"${name} names {command[0]!r}, which is not there")
        return command
    found = next((name for name in USUAL if shutil.which(name)), None)
    if found is None:
        raise EditorError("there is no editor", hint="set $EDITOR to one")
    return [found]


def edit_text(text: str, command: list[str]) -> str:
    """The text after the editor was left; raises EditorError. Of the main thread alone."""
    try:
        handle, name = tempfile.mkstemp(prefix="quantchat-", suffix=".md")
    except OSError as error:
        raise EditorError(f"no file for the editor: {error.strerror or error}") from error
    path = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        with _interrupts_left_to_it():
            status = subprocess.run([*command, name], check=False).returncode
        if status:
            raise EditorError(f"{command[0]} ended with status {status}; the text is as it was")
        if path.stat().st_size > TEXT_BYTES:
            raise EditorError("the edited text has more than 4 MiB; the text is as it was")
        return path.read_text(encoding="utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise EditorError("the edited file is not UTF-8; the text is as it was") from error
    except OSError as error:
        raise EditorError(f"{command[0]}: {error.strerror or error}") from error
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _interrupts_left_to_it() -> Iterator[None]:
    """Ctrl+C reaches both, and would end the app; a handler is not inherited, as ignoring is."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
