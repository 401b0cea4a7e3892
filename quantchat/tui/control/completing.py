"""What is offered while one writes: commands, their arguments, files.

Finds what stands before the cursor; reading disks and lists is done in a thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from quantchat.tui import figures
from quantchat.tui.control.attachments import mention_of
from quantchat.tui.control.file_finder import FileFinder, FoundFile
from quantchat.tui.control.slash import COMMANDS, find
from quantchat.tui.widgets.completion import Completion, Offer
from quantchat.tui.widgets.prompt import Prompt

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

FILE = re.compile(r'(?<![\w@/.])@(?:"([^"\n]*)|([^\s"]*))\Z')
COMMAND = re.compile(r"/[a-z]*\Z")
ARGUMENT = re.compile(r"/([a-z]+)\s+(\S*)\Z")


@dataclass(frozen=True, slots=True)
class Fragment:
    """What is being written, and where it begins in its line."""

    kind: Literal["file", "command", "argument"]
    text: str
    start: int
    command: str = ""


def fragment_of(before: str, row: int) -> Fragment | None:
    """The unfinished word at the end of what stands before the cursor in its row."""
    if row == 0 and before.startswith("/"):
        if COMMAND.match(before):
            return Fragment("command", before, 0)
        argument = ARGUMENT.match(before)
        if argument is not None:
            return Fragment("argument", argument[2], argument.start(2), argument[1])
    file = FILE.search(before)
    if file is None:
        return None
    return Fragment("file", file[1] if file[1] is not None else file[2], file.start())


def command_offers(typed: str) -> list[Offer]:
    """Commands whose name begins so here, then elsewhere, then those with the letters in it."""
    word = typed[1:]
    named = [each for each in COMMANDS if each.name.startswith(word)]
    for others in (
        (each for each in COMMANDS if any(name.startswith(word) for name in each.also)),
        (each for each in COMMANDS if word in each.name),
    ):
        named += [each for each in others if each not in named]
    return [
        Offer(
            text=f"/{each.name}",
            title=f"/{each.name} {f'[{each.argument}]' if each.argument else ''}".rstrip(),
            detail=each.summary,
        )
        for each in named
    ]


def word_offers(words: Sequence[tuple[str, str]], typed: str) -> list[Offer]:
    """Words that an argument may be."""
    low = typed.lower()
    first = [each for each in words if each[0].lower().startswith(low)]
    rest = [each for each in words if low in each[0].lower() and each not in first]
    return [Offer(text=word, title=word, detail=detail) for word, detail in [*first, *rest]]


def file_offers(files: Sequence[FoundFile]) -> list[Offer]:
    """Files as mentions; a folder is left open, to be gone into."""
    offers = []
    for each in files:
        folder = each.path.endswith("/")
        text = mention_of(each.path)
        if folder and text.endswith('"'):
            text = text.removesuffix('"')
        detail = "folder" if folder else figures.size(each.size_bytes)
        offers.append(Offer(text=text, title=each.path, detail=detail))
    return offers


class Completing:
    """Keeps the list above a prompt in step with what is written."""

    def __init__(self, app: QuantchatApp, prompt: Prompt, completion: Completion) -> None:
        self._app = app
        self._prompt = prompt
        self._list = completion
        self._finder = FileFinder()
        self._fragment: Fragment | None = None
        prompt.helper = self

    def take_key(self, key: str) -> bool:
        """Whether the key was for the list; what was typed in the same breath counts."""
        self.follow()
        return self._list.take_key(key)

    def follow(self) -> None:
        """The text or the cursor changed."""
        row, column = self._prompt.cursor_location
        before = self._prompt.document.get_line(row)[:column]
        fragment = fragment_of(before, row) if len(before) < 4096 else None
        former = self._fragment
        if fragment == former:
            return
        self._fragment = fragment
        if fragment is None:
            self._list.show((), "")
        elif fragment.kind == "command":
            self._list.show(command_offers(fragment.text), fragment.text)
        else:
            if former is None or (former.kind, former.command) != (fragment.kind, fragment.command):
                # What was offered for a command must not be taken for its argument.
                self._list.show((), fragment.text)
            self._look(fragment)

    def take(self, offer: Offer) -> None:
        """Put an offer in the place of what is written."""
        fragment, prompt = self._fragment, self._prompt
        if fragment is None:
            return
        row, column = prompt.cursor_location
        open_folder = fragment.kind == "file" and offer.text.endswith("/")
        command = find(offer.text[1:]) if fragment.kind == "command" else None
        ends = open_folder or (command is not None and not command.argument)
        prompt.history.checkpoint()
        after = prompt.document.get_line(row)[column : column + 1]
        prompt.replace(
            offer.text if ends or after == " " else f"{offer.text} ",
            (row, fragment.start),
            (row, column),
        )
        prompt.move_cursor((row, prompt.cursor_location[1]))
        prompt.focus()

    def _look(self, fragment: Fragment) -> None:
        read = self._reader(fragment)
        if read is None:
            self._list.show((), fragment.text)
            return

        def work() -> None:
            offers = read()
            self._app.call_from_thread(take, offers)

        def take(offers: list[Offer]) -> None:
            if fragment == self._fragment:
                self._list.show(offers, fragment.text)

        self._app.run_worker(work, thread=True, exit_on_error=False)

    def _reader(self, fragment: Fragment) -> Callable[[], list[Offer]] | None:
        if fragment.kind == "file":
            return lambda: file_offers(self._finder.find(fragment.text, Path.cwd()))
        command = find(fragment.command)
        choices = None if command is None else command.choices
        if choices is None:
            return None
        return lambda: word_offers(choices(self._app), fragment.text)
