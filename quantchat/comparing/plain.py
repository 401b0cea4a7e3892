"""Frozen records to plain JSON values and back, by their types.

Owns the translation of dataclasses, tuples, choices and numbers; knows no record by name. Numbers
that JSON lacks are written as words. What comes in is hostile: every value is checked.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from quantchat.errors import UsageError

Record = TypeVar("Record")
NONFINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
ITEMS_MAX = 4_000_000
"""Longest list that is read."""


def to_plain(value: Any) -> Any:
    """The value as dicts, lists, text and numbers; keys are the names of the fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def from_plain(kind: type[Record], value: object, where: str = "") -> Record:
    """A record of that kind; unknown keys are passed over. Raises UsageError naming the place."""
    table = value if isinstance(value, Mapping) else None
    if table is None:
        raise _unfit(where, "an object")
    hints = get_type_hints(kind)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        place = f"{where}.{field.name}" if where else field.name
        if field.name in table:
            found[field.name] = _value(hints[field.name], table[field.name], place)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UsageError(f"{place} is missing")
    return kind(**found)


def _value(hint: Any, value: object, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return from_plain(hint, value, where)
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _one_of(get_args(hint), value, where)
    if origin is Literal:
        if not isinstance(value, str | int) or value not in get_args(hint):
            raise _unfit(where, f"one of {', '.join(map(str, get_args(hint)))}")
        return value
    if origin is tuple:
        return _tuple(get_args(hint), value, where)
    return _scalar(hint, value, where)


def _one_of(kinds: tuple[Any, ...], value: object, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    problem: UsageError | None = None
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return _value(kind, value, where)
        except UsageError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _tuple(kinds: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) > ITEMS_MAX:
        raise _unfit(where, "a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_value(kinds[0], item, f"{where}[{at}]") for at, item in enumerate(value))
    if len(value) != len(kinds):
        raise _unfit(where, f"a list of {len(kinds)}")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(_value(kind, item, f"{where}[{at}]") for at, (kind, item) in pairs)


def _float(value: object) -> float | None:
    if isinstance(value, str):
        return NONFINITE.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


SCALARS: Mapping[type, tuple[Callable[[object], object | None], str]] = types.MappingProxyType(
    {
        str: (_text, "text"),
        bool: (_bool, "true or false"),
        int: (_int, "a whole number"),
        float: (_float, "a number"),
    }
)


def _scalar(hint: Any, value: object, where: str) -> Any:
    read, words = SCALARS[hint]
    found = read(value)
    if found is None:
        raise _unfit(where, words)
    return found


def _unfit(where: str, wanted: str) -> UsageError:
    return UsageError(f"{where or 'the file'}: {wanted} is wanted")
