"""Repositories that searches found so far: what is typed filters them before the hub answers.

Owns the bounded pool and its order; asking belongs to `hub_search`. Filtering thousands takes a
few milliseconds, for it is done at every key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantchat.hub.search import FoundRepo, Sort

KNOWN_MAX = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoEntry:
    """A repository that the hub told of."""

    name: str
    """Owner and name."""
    repo: FoundRepo


class HubFinds:
    """Found repositories by name, with the text that words are looked for in."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, RepoEntry]] = {}
        self._sorted: dict[Sort, list[tuple[str, RepoEntry]]] = {}
        self._answered: tuple[str, Sort] | None = None
        self._answer: list[RepoEntry] = []

    def take(self, query: str, sort: Sort, answer: Sequence[FoundRepo]) -> None:
        """The hub's answer to a question."""
        self._answered = (query, sort)
        self._answer = [RepoEntry(name=row.repo, repo=row) for row in answer]
        for entry in self._answer:
            self._known.pop(entry.name, None)
            self._known[entry.name] = (f"{entry.name} {entry.repo.license}".lower(), entry)
        for name in list(self._known)[: max(0, len(self._known) - KNOWN_MAX)]:
            del self._known[name]
        self._sorted.clear()

    def rows(self, query: str, sort: Sort) -> list[RepoEntry]:
        """The answer where the hub gave one, else what is known already and has the words."""
        if self._answered == (query, sort):
            return self._answer
        words = query.lower().split()
        found = self._by(sort) if words else []
        for word in words:
            found = [pair for pair in found if word in pair[0]]
        return [entry for _, entry in found]

    def _by(self, sort: Sort) -> list[tuple[str, RepoEntry]]:
        if sort not in self._sorted:
            pairs = list(self._known.values())
            if sort == "downloads":
                pairs.sort(key=lambda pair: -pair[1].repo.downloads)
            elif sort == "likes":
                pairs.sort(key=lambda pair: -pair[1].repo.likes)
            elif sort == "updated":
                pairs.sort(key=lambda pair: pair[1].repo.updated, reverse=True)
            self._sorted[sort] = pairs
        return self._sorted[sort]
