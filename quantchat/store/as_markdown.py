"""A conversation as Markdown that people read: the shown path, one section for each turn.

Comments mark where turns begin, with what Markdown has no place for, so that the same text comes
back to the letter. The word of the mark is one that stands in none of the turns.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from quantchat.errors import StoreError
from quantchat.store.archive import Archive
from quantchat.store.as_json import (
    ATTACHMENTS_MAX,
    TEXT_LIMIT,
    TURNS_MAX,
    chat_from,
    turn_from,
)
from quantchat.store.fields import Fields
from quantchat.store.records import Attachment, Figures, Turn

VERSION = 1
RULE = "---"
HEADINGS = {"system": "System", "user": "You", "assistant": "Answer"}


def to_markdown(archive: Archive) -> str:
    """The file's text."""
    chat, path = archive.chat, archive.path
    mark = _free_mark(path)
    made = datetime.fromtimestamp(chat.created_s).astimezone()
    front = {
        "quantchat": VERSION,
        "mark": mark,
        "title": chat.title,
        "tags": list(chat.tags),
        "model": chat.model,
        "scheme": chat.scheme,
        "kv": chat.kv,
        "system_prompt": chat.system_prompt,
        "sampling": chat.sampling and dict(chat.sampling),
        "pinned": chat.pinned,
        "made": made.isoformat(timespec="seconds"),
        "created_s": chat.created_s,
        "updated_s": chat.updated_s,
    }
    lines = [RULE, *(f"{key}: {_json(value)}" for key, value in front.items()), RULE, ""]
    lines += [f"# {chat.title or 'Untitled'}", ""]
    for turn in path:
        lines += _section(turn, mark)
    return "\n".join(lines)


def from_markdown(text: str) -> Archive:
    """The conversation in a text that `to_markdown` wrote; raises StoreError."""
    lines = text.replace("\r\n", "\n").split("\n") if "---\r\n" in text[:5] else text.split("\n")
    front, at = _front_matter(lines)
    version = front.whole("quantchat", 1 << 31)
    if version > VERSION:
        raise StoreError(
            f"written by a newer quantchat (format {version}, this one knows {VERSION})",
            hint="upgrade quantchat",
        )
    mark = front.text("mark", 40)
    if not re.fullmatch(r"[a-z0-9-]+", mark):
        raise front.off("mark", mark, "small letters, digits and dashes")
    opening = re.compile(rf"<!-- {mark}(-figures|-file|) ?(.*?) ?-->")
    marks = [
        (number, found[1], found[2])
        for number, line in enumerate(lines[at:], at)
        if line.startswith("<!--") and (found := opening.fullmatch(line))
    ]
    turns: list[Turn] = []
    for place, (number, kind, described) in enumerate(marks):
        end = marks[place + 1][0] if place + 1 < len(marks) else len(lines)
        body = lines[number + 1 : end]
        if kind == "-figures":
            continue
        where = f"line {number + 1}: "
        fields = Fields(where, _table(described, where))
        if kind == "":
            if len(turns) == TURNS_MAX:
                raise StoreError(f"{where}more than {TURNS_MAX:,} turns")
            content = "\n".join(_without_blanks(body[1:]))
            turns.append(_turn(fields, turns, content, where))
        else:
            turns[-1:] = [_with_file(fields, turns, body, where)]
    return Archive(chat=chat_from(front), turns=tuple(turns))


def figures_line(metrics: Figures | None, note: str) -> str:
    """Tokens, speed and time to first token, as far as they are known; why it ended."""
    known = metrics or {}
    parts = []
    if "completion_tokens" in known:
        tokens = int(known["completion_tokens"])
        parts.append(f"{tokens:,} {'token' if tokens == 1 else 'tokens'}")
    if known.get("decode_tok_per_s"):
        parts.append(f"{known['decode_tok_per_s']:.1f} tok/s")
    if known.get("ttft_s"):
        parts.append(f"TTFT {known['ttft_s'] * 1e3:,.0f} ms")
    if note:
        parts.append(" ".join(note.split()))
    return " · ".join(parts)


def _section(turn: Turn, mark: str) -> list[str]:
    described: dict[str, Any] = {"role": turn.role, "created_s": turn.created_s}
    state = "stopped" if turn.state == "streaming" else turn.state
    if state != "complete":
        described["state"] = state
    for key, value in (
        *(("model", turn.model), ("scheme", turn.scheme), ("kv", turn.kv)),
        *(("note", turn.note), ("metrics", turn.metrics and dict(turn.metrics))),
    ):
        if value or value == {}:
            described[key] = value
    parts = (turn.model, turn.scheme, turn.kv and f"kv {turn.kv}")
    heading = " · ".join([HEADINGS[turn.role], *(part for part in parts if part)])
    lines = [f"<!-- {mark} {_json(described)} -->", f"## {' '.join(heading.split())}", ""]
    lines += [turn.content, ""]
    for each in turn.attachments:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", each.text)), default=0))
        kind = PurePosixPath(each.name).suffix[1:]
        kind = kind if re.fullmatch(r"\w{1,12}", kind) else "text"
        lines += [f"<!-- {mark}-file {_json({'name': each.name})} -->", fence + kind]
        lines += [each.text, fence, ""]
    figures = figures_line(turn.metrics, turn.note)
    if figures:
        lines += [f"<!-- {mark}-figures -->", f"*{_plain(figures)}*", ""]
    return lines


def _front_matter(lines: list[str]) -> tuple[Fields, int]:
    if not lines or lines[0].lstrip("\ufeff") != RULE:
        raise StoreError(
            "not a conversation of quantchat", hint="its first line would be --- (front matter)"
        )
    table: dict[str, Any] = {}
    for number, line in enumerate(lines[1:200], 1):
        if line == RULE:
            if "quantchat" not in table:
                break
            return Fields("front matter: ", table), number + 1
        key, colon, value = line.partition(":")
        if not colon:
            break
        try:
            table[key.strip()] = json.loads(value)
        except (ValueError, RecursionError):
            # Front matter that people write has words without quotes.
            table[key.strip()] = value.strip()
    raise StoreError(
        "not a conversation of quantchat", hint='its front matter would have "quantchat: 1"'
    )


def _turn(fields: Fields, before: list[Turn], content: str, where: str) -> Turn:
    if len(content) > TEXT_LIMIT:
        raise StoreError(f"{where}more than {TEXT_LIMIT:,} characters")
    parent = before[-1].id if before else None
    return turn_from(
        fields,
        number=len(before) + 1,
        parent=parent,
        version=0,
        active=True,
        content=content,
        attachments=(),
    )


def _with_file(fields: Fields, turns: list[Turn], body: list[str], where: str) -> Turn:
    if not turns or len(turns[-1].attachments) == ATTACHMENTS_MAX:
        raise StoreError(f"{where}a file without a turn, or too many of them")
    fence = re.match("`{3,}", body[0] if body else "")
    inner = _without_blanks(body, first=False)
    if fence is None or len(inner) < 2 or inner[-1] != fence[0]:
        raise StoreError(f"{where}the file's text does not stand between two fences")
    name, text = fields.text("name"), "\n".join(inner[1:-1])
    kept = (*turns[-1].attachments, Attachment(name, text))
    return dataclasses.replace(turns[-1], attachments=kept)


def _without_blanks(lines: list[str], *, first: bool = True) -> list[str]:
    """Without the empty line that stands for looks at each end."""
    if first and lines and not lines[0]:
        lines = lines[1:]
    return lines[:-1] if lines and not lines[-1] else lines


def _free_mark(path: tuple[Turn, ...]) -> str:
    """`turn`, or `turn-2` and on where a text has the comment itself."""
    texts = [
        *(turn.content for turn in path),
        *(each.text for turn in path for each in turn.attachments),
    ]
    number = 1
    while True:
        mark = "turn" if number == 1 else f"turn-{number}"
        if not any(f"<!-- {mark}" in text for text in texts):
            return mark
        number += 1


def _table(text: str, where: str) -> Mapping[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where}the turn's mark cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise StoreError(f"{where}the turn's mark is not a table")
    return table


def _json(value: object) -> str:
    """On one line, and without what would end a comment."""
    text = json.dumps(value, ensure_ascii=False)
    text = text.replace(">", "\\u003e") if isinstance(value, dict) else text
    return re.sub("[\x85\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain(text: str) -> str:
    """Without what Markdown would take for emphasis."""
    return re.sub(r"([*_`\\])", r"\\\1", text)
