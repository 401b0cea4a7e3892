"""Conversations to files and back: Markdown for people, JSON for all of it.

Owns file names, bounds and the rule that nothing is overwritten unasked or half imported.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from quantchat.errors import StoreError
from quantchat.paths import expanded
from quantchat.store.archive import Archive, add_archives, read_archive
from quantchat.store.as_json import from_json, to_json
from quantchat.store.as_markdown import from_markdown, to_markdown
from quantchat.store.chats import Chats
from quantchat.store.records import Chat
from quantchat.whole_file import replace_file

Format: TypeAlias = Literal["md", "json"]
FORMATS: tuple[Format, ...] = ("md", "json")
FILE_LIMIT_BYTES = 64 << 20
NAME_LIMIT = 60
"""Characters of a file's name, without its ending."""


def text_of(archive: Archive, form: Format) -> str:
    """The conversation as that format has it."""
    return to_json(archive) if form == "json" else to_markdown(archive)


def format_of(path: Path) -> Format:
    """By the file's ending; raises StoreError for one that is neither."""
    ending = path.suffix.lower()
    if ending in (".md", ".markdown"):
        return "md"
    if ending == ".json":
        return "json"
    raise StoreError(
        f"{path.name}: the ending does not name a format", hint="it takes .md or .json"
    )


def file_name(chat: Chat, form: Format) -> str:
    """A name for its file, out of the title."""
    words = re.sub(r"[\W_]+", "-", chat.title.casefold()).strip("-")[:NAME_LIMIT].rstrip("-")
    return f"{words or f'conversation-{chat.id}'}.{form}"


def export_file(chats: Chats, chat_id: int, path: Path, *, overwrite: bool = False) -> Path:
    """Write one conversation, by the path's ending as Markdown or JSON; raises StoreError."""
    archive = read_archive(chats, chat_id)
    path = expanded(path)
    _write(path, text_of(archive, format_of(path)), overwrite=overwrite)
    return path


def export_folder(
    chats: Chats, chat_ids: Sequence[int], folder: Path, form: Format
) -> tuple[Path, ...]:
    """Write conversations under names that are free; raises StoreError at the first that fails."""
    folder = expanded(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot(folder, "be made", error) from error
    written: list[Path] = []
    for chat_id in chat_ids:
        archive = read_archive(chats, chat_id)
        path = free_path(folder, file_name(archive.chat, form))
        _write(path, text_of(archive, form), overwrite=False)
        written.append(path)
    return tuple(written)


def free_path(folder: Path, name: str) -> Path:
    """The name in the folder, numbered where it is taken."""
    path, number = folder / name, 1
    while path.exists():
        number += 1
        path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
    return path


def read_file(path: Path) -> Archive:
    """The conversation in a file; raises StoreError naming the file and what is off in it."""
    path = expanded(path)
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise _cannot(path, "be read", error) from error
    if len(data) > FILE_LIMIT_BYTES:
        raise StoreError(f"{path.name}: larger than {FILE_LIMIT_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
        return from_json(text) if text.lstrip()[:1] in ("{", "[") else from_markdown(text)
    except UnicodeDecodeError as error:
        raise StoreError(f"{path.name}: not text in UTF-8: {error.reason}") from error
    except StoreError as error:
        raise StoreError(f"{path.name}: {error.message}", hint=error.hint) from error


def import_files(chats: Chats, paths: Sequence[Path]) -> tuple[Chat, ...]:
    """Take in the conversations of all files, or none where one is off; raises StoreError."""
    return add_archives(chats, [read_file(path) for path in paths])


def _write(path: Path, text: str, *, overwrite: bool) -> None:
    try:
        if overwrite and path.exists():
            replace_file(path, text.encode())
            return
        with path.open("x", encoding="utf-8", newline="") as file:
            try:
                file.write(text)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                raise
    except FileExistsError as error:
        raise StoreError(f"{path} exists already", hint="choose another name") from error
    except OSError as error:
        raise _cannot(path, "be written", error) from error


def _cannot(path: Path, what: str, error: OSError) -> StoreError:
    return StoreError(f"{path}: cannot {what}: {error.strerror or error}")
