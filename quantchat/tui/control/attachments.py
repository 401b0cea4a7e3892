"""Text that goes along with a message: files named by `@path`, and pastes too long to show.

Owns how both are written in a message and how files are read; reading blocks, so it belongs in a
thread. Only UTF-8 text of bounded size is taken.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quantchat.errors import QuantchatError
from quantchat.paths import expanded
from quantchat.store.records import Attachment
from quantchat.tui import figures

FILE_BYTES = 1 << 20
ALL_BYTES = 4 << 20
FILES = 20
"""Of one message."""
PASTE_CHARS = 1000
PASTE_LINES = 12
"""A paste longer than either is folded."""
MENTION = re.compile(r'(?<![\w@/.])@(?:"([^"\n]{1,1024})"|([^\s"]{1,1024}))')
PASTE = re.compile(r"\[(paste \d{1,6}) · [\d,]{1,12} (?:lines?|characters)\]")
TRAILING = ".,;:!?)]}'>"
SNIFF_BYTES = 1024
NO_WAIT = os.O_NONBLOCK if os.name == "posix" else 0
"""A pipe without a writer is not waited for."""


class AttachmentError(QuantchatError):
    """A file cannot go along with a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What goes along with a message."""

    attachments: tuple[Attachment, ...]
    unknown: tuple[str, ...]
    """Written as paths, but no file is there: they stay words."""


def is_large(text: str) -> bool:
    """Whether a paste is folded."""
    return len(text) > PASTE_CHARS or text.count("\n") >= PASTE_LINES


def paste_label(number: int, text: str) -> str:
    """How a folded paste stands in the message."""
    lines = len(text.splitlines())
    if lines < 2:
        return f"[paste {number} · {figures.count(len(text))} characters]"
    return f"[paste {number} · {figures.count(lines)} lines]"


def pastes_in(text: str, known: Mapping[str, str]) -> tuple[Attachment, ...]:
    """The folded pastes that a message holds, in order, each once."""
    found = {match[0]: match[1] for match in PASTE.finditer(text) if match[0] in known}
    return tuple(Attachment(name, known[label]) for label, name in found.items())


def pastes_of(text: str, attachments: tuple[Attachment, ...]) -> dict[str, str]:
    """The folded pastes of a stored message by their labels."""
    by_name = {each.name: each.text for each in attachments}
    return {m[0]: by_name[m[1]] for m in PASTE.finditer(text) if m[1] in by_name}


def mentions(text: str) -> list[str]:
    """Paths named in a message, in order, each once."""
    found = [match[1] or match[2] for match in MENTION.finditer(text)]
    return list(dict.fromkeys(found))


def mention_of(path: str) -> str:
    """How a path is written in a message."""
    return f'@"{path}"' if re.search(r'[\s"]', path) or path[-1:] in TRAILING else f"@{path}"


def gather(text: str, folder: Path, kept: Mapping[str, Attachment]) -> Gathered:
    """Read the files that a message names; raises AttachmentError for one that cannot go along.

    `kept` are files of a message that is edited: they stay as they were.
    """
    found: dict[str, Attachment] = {}
    unknown: list[str] = []
    total_bytes = 0
    for name in mentions(text):
        bare = name.rstrip(TRAILING)
        if name in kept or bare in kept:
            name = name if name in kept else bare
            found[name] = kept[name]
            continue
        path = next((each for each in (name, bare) if each and _there(each, folder)), None)
        if path is None:
            if "/" in bare or bare.startswith("~"):
                unknown.append(bare)
            continue
        if path in found:
            continue
        if len(found) >= FILES:
            raise AttachmentError(f"more than {FILES} files", hint="send them in several messages")
        content = read_text(_resolved(path, folder), path)
        total_bytes += len(content)
        if total_bytes > ALL_BYTES:
            raise AttachmentError(
                f"the files have more than {figures.size(ALL_BYTES)} together",
                hint="send them in several messages",
            )
        found[path] = Attachment(path, content)
    return Gathered(attachments=tuple(found.values()), unknown=tuple(unknown))


def read_text(path: Path, name: str) -> str:
    """The text of a file; raises AttachmentError saying what is wrong with it."""
    try:
        facts = path.stat()
        if stat.S_ISDIR(facts.st_mode):
            raise AttachmentError(f"{name} is a folder", hint="name a file in it")
        if not stat.S_ISREG(facts.st_mode):
            raise AttachmentError(f"{name} is not a plain file")
        with os.fdopen(os.open(path, os.O_RDONLY | NO_WAIT), "rb") as file:
            data = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise AttachmentError(f"{name}: {error.strerror or error}") from error
    if len(data) > FILE_BYTES:
        raise AttachmentError(
            f"{name} has {figures.size(facts.st_size)}, more than {figures.size(FILE_BYTES)}",
            hint="cut out the part that matters",
        )
    if is_binary(data):
        raise AttachmentError(f"{name} is not text", hint="only UTF-8 text goes along")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise AttachmentError(
            f"{name} is not UTF-8 text: byte {error.start}", hint="convert it to UTF-8"
        ) from error


def is_binary(data: bytes) -> bool:
    """Whether bytes are no text in any common encoding of one byte or UTF-8."""
    return b"\0" in data[: 64 * SNIFF_BYTES]


def _resolved(name: str, folder: Path) -> Path:
    return folder / expanded(name)


def _there(name: str, folder: Path) -> bool:
    try:
        path = _resolved(name, folder)
        return path.exists() and not (path.is_dir() and "/" not in name)
    except (OSError, ValueError):
        return False
