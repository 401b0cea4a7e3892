"""Finding conversations by what was said in them, by their title or by their tags.

Owns the language of the search field and the condition that it becomes; `finding` runs it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile

FOLD = "quantchat_fold"
"""SQL function registered by the store: text without regard to case, in every script."""

TERMS_MAX = 16
BEFORE, AFTER = 28, 120
"""Characters of a turn around the first word found."""
MATCHES_MAX = 100


@dataclass(frozen=True, slots=True)
class Query:
    """What the search field asks for; everything in it must be found."""

    terms: tuple[str, ...]
    """Parts of titles and turns."""
    tags: tuple[str, ...]
    """Beginnings of tags."""


def parsed(text: str) -> Query:
    """Words as terms, `#word` as a tag, `\\#word` as the term "#word"."""
    words = text.split()[:TERMS_MAX]
    return Query(
        terms=tuple(
            word[1:] if word.startswith("\\#") else word for word in words if not _is_tag(word)
        ),
        tags=tuple(word[1:] for word in words if _is_tag(word)),
    )


def search_clause(text: str) -> tuple[str, list[str]]:
    """A condition on `chats` and its parameters: every word is found in title or turns.

    Words of three characters and more go through the trigram index, shorter ones are looked for.
    """
    query = parsed(text)
    conditions: list[str] = []
    parameters: list[str] = []
    for term in query.terms:
        pattern = f"%{_escaped(term.casefold())}%"
        if len(term) >= 3:
            turns = "SELECT rowid FROM turns_text WHERE turns_text MATCH ?"
            needle = '"' + term.replace('"', '""') + '"'
        else:
            # SQLite's own LIKE knows the case of ASCII alone, and is twice as quick.
            content = "content" if term.isascii() else f"{FOLD}(content)"
            turns = f"SELECT id FROM turns WHERE {content} LIKE ? ESCAPE '\\'"
            needle = pattern
        conditions.append(
            f"({FOLD}(title) LIKE ? ESCAPE '\\' OR id IN "
            f"(SELECT chat_id FROM turns WHERE id IN ({turns})))"
        )
        parameters += [pattern, needle]
    for tag in query.tags:
        conditions.append(f"tags <> '' AND {FOLD}(char(10) || tags) LIKE ? ESCAPE '\\'")
        parameters.append(f"%\n{_escaped(tag.casefold())}%")
    return " AND ".join(conditions) or "1", parameters


def matches(text: str, terms: tuple[str, ...]) -> list[tuple[int, int]]:
    """Where the terms stand in a text, as (start, end), in order and apart from one another."""
    if not terms:
        return []
    longest_first = sorted(terms, key=len, reverse=True)
    pattern = "|".join(re.escape(term) for term in longest_first)
    return [found.span() for found in re.finditer(pattern, text, re.IGNORECASE)]


def snippet(content: str, terms: tuple[str, ...]) -> str:
    """A line out of a text around where most of the terms stand together; "" for none of them."""
    spans = matches(content, terms)[:MATCHES_MAX]
    if not spans:
        return ""

    def together(at: int) -> int:
        near = takewhile(lambda span: span[1] <= spans[at][1] + AFTER, spans[at:])
        return len({content[start:end].casefold() for start, end in near})

    found = spans[max(range(len(spans)), key=together)]
    start = max(0, found[0] - BEFORE)
    if start:
        # From the next word on, where one begins before what was found.
        blank = re.compile(r"\s").search(content, start, found[0])
        start = blank.end() if blank else start
    end = found[1] + AFTER
    line = " ".join(content[start:end].split())
    return f"{'…' if start else ''}{line}{'…' if end < len(content) else ''}"


def _is_tag(word: str) -> bool:
    return len(word) > 1 and word[0] == "#"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
