"""A conversation as JSON: the whole tree, with versions, figures and attachments.

Owns the format and the checks of what comes back in; nothing of a file is trusted.
"""

from __future__ import annotations

import dataclasses
import json
import time
from typing import cast

from quantchat import __version__
from quantchat.errors import StoreError
from quantchat.requests import Role
from quantchat.store.archive import Archive, renumbered
from quantchat.store.fields import Fields
from quantchat.store.records import Attachment, Chat, Turn, TurnState

FORMAT = "quantchat conversation"
VERSION = 1
"""Goes up when a newer file can no longer be read by an older quantchat."""
TURNS_MAX = 100_000
TEXT_LIMIT = 32 << 20
"""Characters of one turn, or of one attachment."""
PROMPT_LIMIT = 65_536
ATTACHMENTS_MAX = 100
ROLES = ("system", "user", "assistant")
STATES = ("complete", "stopped", "failed", "streaming")


def to_json(archive: Archive) -> str:
    """The file's text."""
    archive = renumbered(archive)
    chat = archive.chat
    table = {
        "format": FORMAT,
        "version": VERSION,
        "written_by": f"quantchat {__version__}",
        "title": chat.title,
        "tags": list(chat.tags),
        "pinned": chat.pinned,
        "created_s": chat.created_s,
        "updated_s": chat.updated_s,
        "model": chat.model,
        "scheme": chat.scheme,
        "kv": chat.kv,
        "system_prompt": chat.system_prompt,
        "sampling": chat.sampling and dict(chat.sampling),
        "turns": [
            {
                "id": turn.id,
                "parent": turn.parent_id,
                "version": turn.version,
                "active": turn.active,
                "role": turn.role,
                "content": turn.content,
                "state": "stopped" if turn.state == "streaming" else turn.state,
                "note": turn.note,
                "model": turn.model,
                "scheme": turn.scheme,
                "kv": turn.kv,
                "created_s": turn.created_s,
                "metrics": turn.metrics and dict(turn.metrics),
                "attachments": [
                    {"name": each.name, "text": each.text} for each in turn.attachments
                ],
            }
            for turn in archive.turns
        ],
    }
    return json.dumps(table, ensure_ascii=False, indent=1) + "\n"


def from_json(text: str) -> Archive:
    """The conversation in a file's text; raises StoreError saying what is off and where."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"not JSON: {error}") from error
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise StoreError(
            "not a conversation of quantchat", hint=f'its "format" would be "{FORMAT}"'
        )
    fields = Fields("", table)
    version = fields.whole("version", 1 << 31)
    if version > VERSION:
        raise StoreError(
            f"written by a newer quantchat (format {version}, this one knows {VERSION})",
            hint="upgrade quantchat",
        )
    rows = fields.tables("turns", TURNS_MAX)
    turns: list[Turn] = []
    for row in rows:
        turns.append(_turn(row, turns))
    return Archive(chat=chat_from(fields), turns=_counted(turns))


def chat_from(fields: Fields) -> Chat:
    """The conversation itself, whatever the file's format."""
    now_s = time.time()
    created_s = fields.time_s("created_s", now_s)
    return Chat(
        id=1,
        title=fields.text("title"),
        created_s=created_s,
        updated_s=fields.time_s("updated_s", created_s),
        model=fields.text("model"),
        scheme=fields.text("scheme"),
        kv=fields.text("kv"),
        system_prompt=fields.text("system_prompt", PROMPT_LIMIT),
        pinned=fields.flag("pinned"),
        tags=fields.texts("tags", 100, 100),
        sampling=fields.figures("sampling"),
    )


def turn_from(
    fields: Fields,
    *,
    number: int,
    parent: int | None,
    version: int,
    active: bool,
    content: str,
    attachments: tuple[Attachment, ...],
) -> Turn:
    """A turn, whatever the file's format; its place in the tree is known already."""
    state = fields.choice("state", STATES, "complete")
    return Turn(
        id=number,
        chat_id=1,
        parent_id=parent,
        role=cast(Role, fields.choice("role", ROLES)),
        content=content,
        state=cast(TurnState, "stopped" if state == "streaming" else state),
        model=fields.text("model"),
        scheme=fields.text("scheme"),
        kv=fields.text("kv"),
        metrics=fields.figures("metrics"),
        note=fields.text("note"),
        created_s=fields.time_s("created_s", time.time()),
        version=version,
        versions=1,
        active=active,
        attachments=attachments,
    )


def _turn(fields: Fields, before: list[Turn]) -> Turn:
    number = len(before) + 1
    if fields.whole("id", TURNS_MAX) != number:
        raise fields.off("id", fields.table["id"], f"{number}: turns are numbered in their order")
    parent = None
    if fields.table.get("parent") is not None:
        parent = fields.whole("parent", TURNS_MAX)
        if not 0 < parent < number:
            raise fields.off("parent", parent, "the id of a turn before it")
    attachments = tuple(
        Attachment(each.text("name"), each.text("text", TEXT_LIMIT))
        for each in fields.tables("attachments", ATTACHMENTS_MAX)
    )
    return turn_from(
        fields,
        number=number,
        parent=parent,
        version=fields.whole("version", TURNS_MAX),
        active=fields.flag("active"),
        content=fields.text("content", TEXT_LIMIT, default=None),
        attachments=attachments,
    )


def _counted(turns: list[Turn]) -> tuple[Turn, ...]:
    """The turns with their versions counted; raises StoreError where two claim one place."""
    siblings: dict[int | None, list[Turn]] = {}
    for turn in turns:
        siblings.setdefault(turn.parent_id, []).append(turn)
    for parent, group in siblings.items():
        of = "first turns" if parent is None else f"turns after turn {parent}"
        if len({turn.version for turn in group}) != len(group):
            raise StoreError(f"two {of} have the same version")
        if sum(turn.active for turn in group) > 1:
            raise StoreError(f"two {of} are active", hint="one of them is shown, not both")
    counts = {parent: len(group) for parent, group in siblings.items()}
    return tuple(dataclasses.replace(turn, versions=counts[turn.parent_id]) for turn in turns)
