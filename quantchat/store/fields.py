"""Values out of foreign tables, each checked, with the place named where one is off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantchat.errors import StoreError
from quantchat.store.records import Figures

FIGURES_MAX = 100
WORD_LIMIT = 4096
"""Characters of names and notes."""
LATEST_S = 253_402_300_799.0
"""End of the year 9999."""


@dataclass(frozen=True, slots=True)
class Fields:
    """One table of a file; every method raises StoreError naming place, key and what it takes."""

    where: str
    table: Mapping[str, Any]

    def text(self, key: str, limit: int = WORD_LIMIT, default: str | None = "") -> str:
        """A string of at most `limit` characters; without a default it must be there."""
        value = self.table.get(key, default)
        if not isinstance(value, str):
            raise self.off(key, value, "text")
        if len(value) > limit:
            raise StoreError(
                f"{self.where}{key}: {len(value):,} characters; at most {limit:,} are taken"
            )
        return value

    def choice(self, key: str, words: Sequence[str], default: str | None = None) -> str:
        """One of the words."""
        value = self.table.get(key, default)
        if value not in words:
            raise self.off(key, value, f"one of {', '.join(words)}")
        return str(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        value = self.table.get(key, default)
        if not isinstance(value, bool):
            raise self.off(key, value, "true or false")
        return value

    def whole(self, key: str, highest: int) -> int:
        """A whole number from 0."""
        value = self.table.get(key)
        if type(value) is not int or not 0 <= value <= highest:
            raise self.off(key, value, f"a whole number from 0 to {highest:,}")
        return value

    def time_s(self, key: str, default: float | None) -> float:
        """Seconds since the epoch."""
        value = self.table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.off(key, value, "seconds since 1970")
        if not 0 <= value <= LATEST_S:
            raise self.off(key, value, "seconds since 1970")
        return float(value)

    def figures(self, key: str) -> Figures | None:
        """Numbers by name, or none at all."""
        value = self.table.get(key)
        if value is None:
            return None
        if not isinstance(value, dict) or len(value) > FIGURES_MAX:
            raise self.off(key, value, f"at most {FIGURES_MAX} numbers by name")
        for name, number in value.items():
            plain = isinstance(number, int | float) and not isinstance(number, bool)
            if not plain or abs(number) > 1e300 or not math.isfinite(number) or len(name) > 100:
                raise self.off(f"{key}.{name[:60]}", number, "a finite number")
        return dict(value)

    def texts(self, key: str, most: int, limit: int) -> tuple[str, ...]:
        """A list of strings."""
        value = self.table.get(key, [])
        if not isinstance(value, list) or len(value) > most:
            raise self.off(key, value, f"a list of at most {most} texts")
        for each in value:
            if not isinstance(each, str) or len(each) > limit:
                raise self.off(key, each, f"texts of at most {limit} characters")
        return tuple(value)

    def tables(self, key: str, most: int) -> list[Fields]:
        """A list of tables."""
        value = self.table.get(key, [])
        if not isinstance(value, list) or len(value) > most:
            raise self.off(key, value, f"a list of at most {most:,} tables")
        found = []
        for at, each in enumerate(value):
            where = f"{self.where}{key}[{at}]"
            if not isinstance(each, dict):
                raise StoreError(f"{where} is not a table")
            found.append(Fields(f"{where}.", each))
        return found

    def off(self, key: str, value: object, wanted: str) -> StoreError:
        """The error for a value that cannot be taken."""
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        said = "is missing" if value is None and key not in self.table else f"{shown} is not taken"
        return StoreError(f"{self.where}{key}: {said}", hint=f"it takes {wanted}")
