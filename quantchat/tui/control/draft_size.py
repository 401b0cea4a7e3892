"""How much of the context a message to come would take, said above the prompt while it matters.

The estimate is `context_room`'s; files are looked at in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content

from quantchat.comparing.words import percent
from quantchat.errors import QuantchatError
from quantchat.paths import expanded
from quantchat.store.records import Attachment
from quantchat.tui.control.attachments import TRAILING, mentions
from quantchat.tui.control.context_room import Room, Weighed, size_bytes, weigh
from quantchat.tui.control.said import block_of
from quantchat.tui.markup.palette import Palette
from quantchat.tui.screens.dialog import Dialog, Way
from quantchat.tui.widgets.prompt import Prompt
from quantchat.tui.widgets.turn import click

if TYPE_CHECKING:
    from quantchat.tui.screens.writing import WritingScreen

LARGE_SHARE = 0.2
LARGE_TOKENS = 2000
"""A message of either is said to be large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Longer:
    """A longer context that the plan allows."""

    kv: str
    context_tokens: int


class DraftSize:
    """Follows the prompt of the chat screen."""

    def __init__(self, screen: WritingScreen) -> None:
        self._screen = screen
        self._draft_bytes = 0
        self._sizes: dict[str, int] = {}
        """Bytes of files that the text names, once they are known."""
        self._weighed: tuple[tuple[object, ...], Weighed] | None = None

    def measure(
        self, prompt: Prompt, kept: Mapping[str, Attachment], done: Callable[[], None]
    ) -> None:
        """Take the size of what is written; `done` is called when files are known later."""
        text = prompt.text
        names = mentions(text)
        new = [name for name in names if name not in self._sizes and name not in kept]
        self._sizes = {name: self._sizes[name] for name in names if name in self._sizes}
        self._draft_bytes = size_bytes(text) + sum(size_bytes(p.text) for p in prompt.pastes())
        self._draft_bytes += sum(size_bytes(kept[name].text) for name in names if name in kept)
        if not new:
            return
        app, folder = self._screen.desk, Path.cwd()

        def work() -> None:
            found = {name: file_bytes(name, folder) for name in new}
            app.call_from_thread(take, found)

        def take(found: dict[str, int]) -> None:
            self._sizes |= found
            done()

        app.run_worker(work, thread=True, exit_on_error=False)

    def room(self, text: str, attachments: Sequence[Attachment]) -> Room | None:
        """Of a message as it is sent; None without a model."""
        count = size_bytes(text) + sum(size_bytes(block_of(each)) for each in attachments)
        return self._room(count)

    def line(self, palette: Palette) -> Content | None:
        """What is said of the context; None while there is room enough."""
        room = self._room(self._draft_bytes + sum(self._sizes.values()))
        if room is None:
            return None
        what = self._screen.key_name("screen.context")
        choices = click(f"{what} what to do", "screen.context", palette.marker)
        new = click(f"{self._screen.key_name('screen.new')} new chat", "screen.new", palette.marker)
        if room.draft_too_long:
            text = f" This message has about {room.draft:,} tokens, {room.budget:,} are free"
            return Content.assemble((text, palette.error), "   ", choices)
        if room.left_out:
            many = "message" if room.left_out == 1 else "messages"
            text = f" Context full: about {room.left_out} oldest {many} left out"
            return Content.assemble((text, palette.warning), "   ", choices, "   ", new)
        if room.nearly_full:
            used = min(room.limit, room.history + room.draft)
            text = f" Context {percent(room.share)} full: about {used:,} of {room.limit:,} tokens"
            return Content.assemble((text, palette.warning), "   ", choices, "   ", new)
        if room.draft >= min(LARGE_TOKENS, LARGE_SHARE * room.limit):
            share = room.draft / room.limit
            text = (
                f" about {room.draft:,} tokens, {percent(share)} of the context of {room.limit:,}"
            )
            return Content.styled(text, palette.muted)
        return None

    def offer(self, edit: Callable[[], None]) -> None:
        """Ask what to do about a full context; what the plan allows is found in a thread."""
        app, info = self._screen.desk, self._screen.desk.loads.info
        if info is None:
            app.notify("No model is loaded yet.")
            return
        request = app.preferences.load_request()
        scheme, now = info.scheme, info.context_tokens
        kvs = list(dict.fromkeys([request.kv, "int8"]))

        def work() -> None:
            found: list[Longer] = []
            for kv in kvs:
                asked = replace(request, kv=kv, context_tokens=0)
                try:
                    rows = app.schemes.rows(asked, None, may_measure=False)
                except QuantchatError:
                    continue
                row = next((row for row in rows if row.name == scheme and row.allowed), None)
                most = max([now, *(each.context_tokens for each in found)])
                if row is not None and row.context_tokens > most:
                    found.append(Longer(kv=kv, context_tokens=row.context_tokens))
            app.call_from_thread(self._ask, found, edit)

        app.run_worker(work, thread=True, exit_on_error=False)

    def _ask(self, found: list[Longer], edit: Callable[[], None]) -> None:
        app, info = self._screen.desk, self._screen.desk.loads.info
        if info is None:
            return
        ways = [Way(key="n", label="New chat", result="new")]
        for at, each in enumerate(found):
            kv = f", KV {each.kv}" if each.kv != app.preferences.settings.kv else ""
            label = f"Context of {each.context_tokens:,}{kv}"
            ways.append(Way(key="li"[at], label=label, result=str(at)))
        ways += [
            Way(key="e", label="Edit a message", result="edit"),
            Way(key="c", label="Go on", result=""),
        ]
        hint = "" if found else "The plan allows no longer context for this model here."

        def take(result: str | None) -> None:
            if result == "new":
                self._screen.action_new()
            elif result == "edit":
                edit()
            elif result:
                longer = found[int(result)]
                problem = app.preferences.change(kv=longer.kv, context_tokens=0)
                if problem:
                    app.notify(problem, severity="warning")
                app.loads.want(app.preferences.load_request())

        message = (
            f"The model sees {info.context_tokens:,} tokens. When a conversation has more, its "
            "oldest messages are left out of what is sent; they stay on the screen."
        )
        app.push_screen(Dialog("Context", message, hint, ways), take)

    def _room(self, draft_bytes: int) -> Room | None:
        desk = self._screen.desk
        info, conversation = desk.loads.info, desk.conversation
        if info is None:
            return None
        path = conversation.path
        system = conversation.chat.system_prompt if conversation.chat is not None else ""
        last = (path[-1].id, path[-1].state) if path else ()
        key = (len(path), last, info.context_tokens, system)
        if self._weighed is None or self._weighed[0] != key:
            self._weighed = (key, weigh(path, system, limit=info.context_tokens))
        max_tokens = desk.preferences.settings.max_tokens
        return self._weighed[1].room(draft_bytes, max_tokens=max_tokens)


def file_bytes(name: str, folder: Path) -> int:
    """Size of a file that a text names; 0 where there is none."""
    for each in (name, name.rstrip(TRAILING)):
        try:
            path = folder / expanded(each)
            if path.is_file():
                return path.stat().st_size
        except (OSError, ValueError):
            continue
    return 0
