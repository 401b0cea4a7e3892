"""Facts a model file states about itself, read by type.

Owns the getters for GGUF metadata and JSON configs. A missing or mistyped fact is an error with
file, key and value; a default is used only where the caller states one. JSON null counts as missing.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from quantchat.errors import CheckpointError

T = TypeVar("T")


class Facts(Mapping[str, Any]):
    """A read-only mapping with typed getters; all raise CheckpointError."""

    __slots__ = ("_values", "path", "prefix")

    def __init__(self, path: Path, values: Mapping[str, Any], *, prefix: str = "") -> None:
        self.path = path
        self.prefix = prefix
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Facts({self.path.name}, {len(self)} keys)"

    def text(self, key: str, *, default: str | None = None) -> str:
        """A string."""
        return self._required(key, self.optional_text(key), default)

    def optional_text(self, key: str) -> str | None:
        """A string, or None where the key is missing."""
        return self._get(key, "text", _text)

    def integer(
        self,
        key: str,
        *,
        default: int | None = None,
        minimum: int | None = None,
        maximum: int | None = None,
    ) -> int:
        """A whole number (never a bool or a float) within the bounds, both inclusive."""
        found = self.optional_integer(key, minimum=minimum, maximum=maximum)
        return self._required(key, found, default)

    def optional_integer(
        self, key: str, *, minimum: int | None = None, maximum: int | None = None
    ) -> int | None:
        """A whole number, or None where the key is missing."""
        value = self._get(key, "an integer", _integer)
        if value is not None and minimum is not None and value < minimum:
            raise self._error(key, f"is {_shown(value)}, at least {minimum} expected")
        if value is not None and maximum is not None and value > maximum:
            raise self._error(key, f"is {_shown(value)}, at most {maximum} expected")
        return value

    def number(self, key: str, *, default: float | None = None) -> float:
        """A finite number; whole ones count."""
        return self._required(key, self.optional_number(key), default)

    def optional_number(self, key: str) -> float | None:
        """A finite number, or None where the key is missing."""
        return self._get(key, "a finite number", _number)

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """True or false."""
        return self._required(key, self.optional_flag(key), default)

    def optional_flag(self, key: str) -> bool | None:
        """True or false, or None where the key is missing."""
        return self._get(key, "true or false", _flag)

    def texts(self, key: str) -> Sequence[str]:
        """A list of strings."""
        return self._required(key, self.optional_texts(key), None)

    def optional_texts(self, key: str) -> Sequence[str] | None:
        """A list of strings, or None where the key is missing."""
        return self._get(key, "a list of texts", lambda value: _all(value, _text))

    def integers(self, key: str) -> Sequence[int]:
        """A list of whole numbers."""
        return self._required(key, self.optional_integers(key), None)

    def optional_integers(self, key: str) -> Sequence[int] | None:
        """A list of whole numbers, or None where the key is missing."""
        return self._get(key, "a list of integers", lambda value: _all(value, _integer))

    def numbers(self, key: str) -> Sequence[float]:
        """A list of finite numbers."""
        return self._required(key, self.optional_numbers(key), None)

    def optional_numbers(self, key: str) -> Sequence[float] | None:
        """A list of finite numbers, or None where the key is missing."""
        return self._get(key, "a list of finite numbers", lambda value: _all(value, _number))

    def section(self, key: str) -> Facts:
        """A nested table; its errors name the whole path of keys."""
        return self._required(key, self.optional_section(key), None)

    def optional_section(self, key: str) -> Facts | None:
        """A nested table, or None where the key is missing."""
        value = self._get(key, "a table", lambda value: value if isinstance(value, dict) else None)
        return None if value is None else Facts(self.path, value, prefix=f"{self.prefix}{key}.")

    def _get(self, key: str, wanted: str, convert: Callable[[Any], T | None]) -> T | None:
        value = self._values.get(key)
        if value is None:
            return None
        converted = convert(value)
        if converted is None:
            raise self._error(key, f"is {_kind(value)} {_shown(value)}, {wanted} expected")
        return converted

    def _required(self, key: str, value: T | None, default: T | None) -> T:
        if value is not None:
            return value
        if default is not None:
            return default
        raise self._error(key, "is missing")

    def _error(self, key: str, problem: str) -> CheckpointError:
        name = f"{self.prefix}{key}"
        shown = name if name.isprintable() and len(name) <= 100 else ascii(name[:100])
        return CheckpointError(self.path, f"{shown} {problem}")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _all(value: Any, convert: Callable[[Any], T | None]) -> Sequence[T] | None:
    """A list as it converts; packed numbers stay packed, a hostile file may have millions."""
    if isinstance(value, array):
        return None if any(convert(item) is None for item in value) else value
    if not isinstance(value, list):
        return None
    converted = [convert(item) for item in value]
    found = [item for item in converted if item is not None]
    return found if len(found) == len(converted) else None


def _kind(value: Any) -> str:
    names = {
        str: "text",
        int: "integer",
        float: "number",
        bool: "flag",
        list: "list",
        array: "list",
        dict: "table",
    }
    return names.get(type(value), type(value).__name__)


def _shown(value: Any) -> str:
    if isinstance(value, list | dict | array):
        return f"of {len(value)}"
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "out of range"
    return text if len(text) <= 40 else f"{text[:37]}..."
