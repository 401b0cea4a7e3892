"""Repositories that searches found so far: what is typed filters them before the hub answers.

Owns the bounded pool and its order; asking belongs to `hub_search`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quantchat.tui.control.words import has_words

if TYPE_CHECKING:
    from quantchat.hub.search import FoundRepo, Sort

KNOWN_MAX = 5000


class HubFinds:
    """Found repositories by name, with the text that words are looked for in."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, FoundRepo]] = {}
        self._answered: tuple[str, Sort] | None = None
        self._answer: list[FoundRepo] = []

    def take(self, query: str, sort: Sort, answer: Sequence[FoundRepo]) -> None:
        """The hub's answer to a question."""
        self._answered, self._answer = (query, sort), list(answer)
        for row in answer:
            self._known.pop(row.repo, None)
            self._known[row.repo] = (f"{row.repo} {row.license}".lower(), row)
        for name in list(self._known)[: max(0, len(self._known) - KNOWN_MAX)]:
            del self._known[name]

    def rows(self, query: str, sort: Sort) -> list[FoundRepo]:
        """The answer where the hub gave one, else what is known already and has the words."""
        if self._answered == (query, sort):
            return self._answer
        words = query.lower().split()
        if not words:
            return []
        rows = [row for text, row in self._known.values() if has_words(text, words)]
        if sort == "downloads":
            rows.sort(key=lambda row: -row.downloads)
        elif sort == "likes":
            rows.sort(key=lambda row: -row.likes)
        elif sort == "updated":
            rows.sort(key=lambda row: row.updated, reverse=True)
        return rows
