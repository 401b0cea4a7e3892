"""What of a conversation the model sees: messages with their files, answers without reasoning.

Files stand before the message's own words, each in a fence longer than any within it. Reasoning of
earlier answers is left out, as the makers of such models ask for; only an answer that is continued
keeps its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from quantchat.reasoning import parts_of
from quantchat.requests import Message
from quantchat.store.records import Attachment, Turn

TICKS = re.compile(r"^ {0,3}(`{3,})", re.MULTILINE)


def block_of(attachment: Attachment) -> str:
    """A file under its name, as the model sees it."""
    longest = max((len(ticks) for ticks in TICKS.findall(attachment.text)), default=2)
    fence = "`" * max(3, longest + 1)
    text = attachment.text if attachment.text.endswith("\n") else f"{attachment.text}\n"
    return f"{attachment.name}:\n{fence}\n{text}{fence}"


def said(text: str, attachments: Sequence[Attachment]) -> str:
    """A message with its files."""
    return "\n\n".join([*(block_of(each) for each in attachments), *([text] if text else [])])


def message_of(turn: Turn) -> Message:
    """A turn of the past."""
    if turn.role == "assistant":
        return Message("assistant", parts_of(turn.content).answer)
    return Message(turn.role, said(turn.content, turn.attachments))


def messages_of(path: Sequence[Turn], system_prompt: str, prefix: str = "") -> tuple[Message, ...]:
    """The conversation that is sent; `prefix` is the answer to go on with."""
    messages = [message for message in map(message_of, path) if message.content]
    if system_prompt:
        messages.insert(0, Message("system", system_prompt))
    if prefix:
        messages.append(Message("assistant", prefix))
    return tuple(messages)
