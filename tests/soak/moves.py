"""What a user does all day, by keys: chats, switches, compares, opens every screen, edits, deletes.

Every move begins and ends on the chat screen with nothing streaming.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from textual.events import Paste
from textual.pilot import Pilot

from quantchat.tui.app import QuantchatApp
from quantchat.tui.screens.chat import ChatScreen
from quantchat.tui.screens.compare import CompareScreen
from quantchat.tui.screens.conversations import ConversationsScreen

PATIENCE_S = 60.0
ESCAPES = 40
CONVERSATIONS_KEPT = 24
SIZES = ((80, 24), (120, 40), (200, 50), (60, 20), (100, 30))
THEMES = ("ink", "paper", "phosphor", "nord")
SCREENS = ("ctrl+l", "ctrl+o", "f5", "ctrl+s", "f1", "f6", "f8", "ctrl+p")
WORDS = ("ship", "fog", "lamp", "dog", "sea", "storm", "night", "coast", "wind", "harbour")


class StuckError(Exception):
    """The app did not get where a move led."""


@dataclass(slots=True, kw_only=True)
class User:
    """The app and what drives it."""

    app: QuantchatApp
    pilot: Pilot[None]
    chance: random.Random

    async def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        await self.pilot.press(*keys)

    async def until(self, reached: Callable[[], object], what: str) -> None:
        """Let the app run."""
        until_s = time.monotonic() + PATIENCE_S
        while not reached():
            if time.monotonic() > until_s or not self.app.is_running:
                raise StuckError(f"{what}; in front: {self.app.screen}")
            await asyncio.sleep(0.01)

    @property
    def talking(self) -> bool:
        """Whether an answer streams or a question waits."""
        return self.app.conversation.answering is not None or self.app.conversation.waiting

    async def home(self) -> None:
        """To the chat with nothing streaming, by Escape alone."""
        for _ in range(ESCAPES):
            prompt = self.app.chat_screen.prompt
            if isinstance(self.app.screen, ChatScreen) and prompt.has_focus and not self.talking:
                return
            await self.press("escape")
            await asyncio.sleep(0.05)
        raise StuckError(f"escape does not lead back from {self.app.screen}")

    async def write(self, text: str) -> None:
        """Into the prompt of the screen in front, and send it."""
        prompt = self.app.screen.query_one("#prompt")
        prompt.focus()
        await self.until(lambda: prompt.has_focus, "the prompt has the focus")
        for letter in text:
            await self.press("space" if letter == " " else letter)
        await self.press("enter")

    def question(self) -> str:
        """Some words."""
        return " ".join(self.chance.choices(WORDS, k=self.chance.randint(1, 4)))

    async def ready(self) -> None:
        """Until the model answers."""
        await self.until(
            lambda: self.app.loads.ready and not self.app.loads.busy, "the model is ready"
        )


async def ask(user: User) -> None:
    """A question and its whole answer."""
    turns = len(user.app.conversation.path)
    await user.write(user.question())
    await user.until(lambda: len(user.app.conversation.path) == turns + 2, "a question is asked")
    await user.until(lambda: not user.talking, "an answer ends")


async def stop_and_go_on(user: User) -> None:
    """Stop an answer halfway, then continue it."""
    turns = len(user.app.conversation.path)
    await user.write(user.question())
    # A short one may be over before it is looked at.
    await user.until(lambda: len(user.app.conversation.path) == turns + 2, "an answer begins")
    await asyncio.sleep(user.chance.uniform(0.05, 0.3))
    await user.press("escape")
    await user.until(lambda: not user.talking, "an answer stops")
    await user.press("ctrl+g")
    await asyncio.sleep(0.1)
    await user.until(lambda: not user.talking, "a continued answer ends")


async def again(user: User) -> None:
    """Another version of the last answer, and back and forth."""
    await user.press("ctrl+r")
    await asyncio.sleep(0.1)
    await user.until(lambda: not user.talking, "another version ends")
    await user.press("alt+left", "alt+right", "alt+left")


async def edit(user: User) -> None:
    """Change an earlier message and send it as a new branch."""
    await user.press("ctrl+up", *(["ctrl+up"] * user.chance.randint(0, 3)))
    await user.press("e")
    await asyncio.sleep(0.05)
    if user.app.chat_screen.prompt.has_focus:
        await user.press("x", "enter")
        await asyncio.sleep(0.1)
    await user.until(lambda: not user.talking, "an edited branch is answered")


async def new(user: User) -> None:
    """An empty conversation."""
    await user.press("ctrl+n")


async def look(user: User) -> None:
    """Open a screen, move about in it, close it."""
    key = user.chance.choice(SCREENS)
    await user.press(key)
    await user.until(lambda: not isinstance(user.app.screen, ChatScreen), f"{key} opens a screen")
    await user.press(*user.chance.choices(("down", "up", "tab", "a", "pagedown"), k=4))


async def meters(user: User) -> None:
    """Choose a meter, read what it means; hide and show all."""
    await user.press("f7", "down", "down", "question_mark")
    await user.home()
    await user.press("ctrl+b", "ctrl+b")


async def dial(user: User) -> None:
    """Turn the dial and change nothing."""
    await user.press("alt+down", "alt+down", "alt+up", "escape")


async def open_earlier(user: User) -> None:
    """Search in the conversations and open what is found."""
    await user.press("ctrl+l")
    await user.until(lambda: isinstance(user.app.screen, ConversationsScreen), "the list opens")
    await user.press(*user.chance.choice(WORDS)[:3])
    await asyncio.sleep(0.3)
    await user.press("enter")
    await asyncio.sleep(0.1)


async def delete(user: User) -> None:
    """Delete conversations beyond those that are kept; undo the deletion of another one."""
    await user.press("ctrl+l")
    await user.until(lambda: isinstance(user.app.screen, ConversationsScreen), "the list opens")
    await asyncio.sleep(0.2)
    await user.press("f8")
    await asyncio.sleep(0.1)
    await user.press("f9")
    await asyncio.sleep(0.1)
    for _ in range(max(0, len(user.app.chats.list(limit=1000)) - CONVERSATIONS_KEPT)):
        await user.press("end", "f8")
        await asyncio.sleep(0.05)


async def compare(user: User) -> None:
    """Ask both sides, look at both, leave."""
    await user.press("ctrl+t")
    await user.until(lambda: isinstance(user.app.screen, CompareScreen), "two panes open")
    comparison = user.app.comparison
    assert comparison is not None
    await user.until(lambda: comparison.ready, "both sides are ready")
    before = comparison.shown
    await user.write(user.question())
    await user.until(lambda: comparison.shown is not before, "both are asked")
    await user.until(lambda: not comparison.answering, "both have answered")
    await user.press("alt+right", "alt+down", "pageup", "f9", "f9")


async def switch(user: User) -> None:
    """Load another scheme from the table."""
    await user.press("f5")
    await user.until(lambda: not isinstance(user.app.screen, ChatScreen), "the schemes open")
    await asyncio.sleep(0.3)
    await user.press(*(["down"] * user.chance.randint(0, 4)), "enter")
    await asyncio.sleep(0.2)
    await user.home()
    await user.ready()


async def scroll(user: User) -> None:
    """To the first message, down by pages, to the end."""
    await user.press("ctrl+home", "pagedown", "pagedown", "pageup", "ctrl+end")


async def resize(user: User) -> None:
    """Another size of the terminal."""
    await user.pilot.resize_terminal(*user.chance.choice(SIZES))
    await asyncio.sleep(0.1)


async def restyle(user: User) -> None:
    """Another theme."""
    user.app.set_value("theme", user.chance.choice(THEMES))
    await asyncio.sleep(0.05)


async def paste(user: User) -> None:
    """A long text into the prompt, sent."""
    prompt = user.app.chat_screen.prompt
    prompt.post_message(Paste("a line that was copied from somewhere else\n" * 60))
    await asyncio.sleep(0.1)
    await ask(user)


MOVES: tuple[tuple[Callable[[User], Awaitable[None]], int], ...] = (
    (ask, 8),
    (stop_and_go_on, 2),
    (again, 2),
    (edit, 2),
    (new, 2),
    (look, 6),
    (meters, 1),
    (dial, 1),
    (open_earlier, 2),
    (delete, 1),
    (compare, 2),
    (switch, 1),
    (scroll, 2),
    (resize, 2),
    (restyle, 1),
    (paste, 1),
)
"""Moves and how often each comes."""
