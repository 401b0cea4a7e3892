"""Votes of blind comparisons, and what they add up to for a pair of models.

A pair is the same whichever of the two stood at the left. Every method is one transaction, may be
called from any thread and raises StoreError.
"""

from __future__ import annotations

import csv
import io
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from quantchat.intervals import wilson
from quantchat.store.db import Database
from quantchat.store.records import storable

Choice: TypeAlias = Literal["left", "right", "tie"]

PROMPT_LIMIT = 4000
"""Characters of a prompt that are kept."""
COLUMNS = (
    "created_s",
    "prompt",
    "left_model",
    "left_scheme",
    "left_kv",
    "right_model",
    "right_scheme",
    "right_kv",
    "choice",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One of the two, as it was loaded."""

    model: str
    scheme: str
    kv: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What was chosen, not knowing which was which."""

    created_s: float
    """Seconds since the epoch."""
    prompt: str
    left: Contender
    right: Contender
    choice: Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Votes between two contenders."""

    left: int
    """How often the left won."""
    right: int
    ties: int

    @property
    def votes(self) -> int:
        """All of them."""
        return self.left + self.right + self.ties

    @property
    def right_share(self) -> float | None:
        """Part of the decided votes that the right won; None where none is decided."""
        decided = self.left + self.right
        return self.right / decided if decided else None

    def interval(self) -> tuple[float, float] | None:
        """Where the right's share lies with 95 % (Wilson); None where no vote is decided."""
        return wilson(self.right, self.left + self.right)


class Votes:
    """The votes in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, prompt: str, left: Contender, right: Contender, choice: Choice) -> None:
        """Keep a vote."""
        with self._database.write() as connection:
            connection.execute(
                f"INSERT INTO votes ({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    time.time(),
                    storable(prompt[:PROMPT_LIMIT]),
                    *(left.model, left.scheme, left.kv),
                    *(right.model, right.scheme, right.kv),
                    choice,
                ),
            )

    def tally(self, left: Contender, right: Contender) -> Tally:
        """What the votes between the two add up to, whichever way round they stood."""
        where = (
            "left_model = ? AND left_scheme = ? AND left_kv = ? "
            "AND right_model = ? AND right_scheme = ? AND right_kv = ?"
        )
        words = (left.model, left.scheme, left.kv, right.model, right.scheme, right.kv)
        turned = (right.model, right.scheme, right.kv, left.model, left.scheme, left.kv)
        query = f"SELECT choice, count(*) AS times FROM votes WHERE {where} GROUP BY choice"
        with self._database.read() as connection:
            straight = _counts(connection.execute(query, words).fetchall())
            other = {} if words == turned else _counts(connection.execute(query, turned).fetchall())
        return Tally(
            left=straight.get("left", 0) + other.get("right", 0),
            right=straight.get("right", 0) + other.get("left", 0),
            ties=straight.get("tie", 0) + other.get("tie", 0),
        )

    def all(self) -> list[Vote]:
        """Every vote, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT * FROM votes ORDER BY id").fetchall()
        return [_vote(row) for row in rows]


def as_csv(votes: Sequence[Vote]) -> str:
    """One line a vote under a line of names; the time in UTC."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(("time", *COLUMNS[1:]))
    for vote in votes:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(vote.created_s))
        left, right = vote.left, vote.right
        names = (left.model, left.scheme, left.kv, right.model, right.scheme, right.kv)
        table.writerow((stamp, _harmless(vote.prompt), *names, vote.choice))
    return out.getvalue()


def _harmless(text: str) -> str:
    """Spreadsheets run what begins like a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _counts(rows: Sequence[sqlite3.Row]) -> dict[str, int]:
    return {str(row["choice"]): int(row["times"]) for row in rows}


def _vote(row: sqlite3.Row) -> Vote:
    return Vote(
        created_s=row["created_s"],
        prompt=row["prompt"],
        left=Contender(model=row["left_model"], scheme=row["left_scheme"], kv=row["left_kv"]),
        right=Contender(model=row["right_model"], scheme=row["right_scheme"], kv=row["right_kv"]),
        choice=row["choice"],
    )
