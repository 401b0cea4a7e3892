"""The list of conversations in tests: filling it, opening it, what it lists."""

from __future__ import annotations

import time
from pathlib import Path

from app_support import ready, wait_until
from textual.pilot import Pilot

from quantchat.store.chats import Chats
from quantchat.store.db import open_database
from quantchat.tui.app import QuantchatApp
from quantchat.tui.screens.conversations import ConversationsScreen
from quantchat.tui.widgets.chat_list import ChatList


def fill(folder: Path, *titles: str) -> list[int]:
    """Conversations with a message each, the last one the latest."""
    database = open_database(folder / "conversations.db")
    chats = Chats(database)
    ids = []
    for title in titles:
        chat = chats.create(title=title, model="starter", scheme="int4")
        turn = chats.add_turn(chat.id, None, "user", f"question of {title}")
        chats.add_turn(chat.id, turn.id, "assistant", f"They said: {title} is an answer.")
        ids.append(chat.id)
        time.sleep(0.002)
    database.close()
    return ids


async def opened(pilot: Pilot[None], app: QuantchatApp, rows: int) -> ChatList:
    """The list, once it has so many rows."""
    await ready(pilot, app)
    await pilot.press("ctrl+l")
    await wait_until(pilot, lambda: isinstance(app.screen, ConversationsScreen))
    found = app.screen.query_one(ChatList)
    await wait_until(pilot, lambda: len(found.found) == rows)
    return found


async def in_front(pilot: Pilot[None], app: QuantchatApp, kind: type) -> None:
    await wait_until(pilot, lambda: isinstance(app.screen, kind) and app.screen.is_mounted)


def titles(rows: ChatList) -> list[str]:
    return [each.chat.title for each in rows.found]
