"""JSON that lies: a sound value with a few things changed, written as text.

Owns the changes and a writer that can say what json.dumps cannot: keys twice, nests without end,
numbers that are none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

Path: TypeAlias = tuple[Any, ...]
NEST = 20_000
MANY = 4_000


@dataclass(frozen=True, slots=True)
class Raw:
    """Text that stands for itself."""

    text: str


@dataclass(frozen=True, slots=True)
class Twice:
    """A table with one of its keys once more."""

    table: dict[str, Any]
    key: str
    value: Any


NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 8, 31, 32, 33, 64, 127, 128, 255, 256, 1023, 65535, 65536, 10**6),
    *(2**31 - 1, 2**31, -(2**31), 2**32, 2**48, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30),
    *(0.0, -0.0, 0.5, 1.5, -1.5, 1e-30, 1e30, 1e300, 5e-324, float("nan"), float("inf")),
    *(float("-inf"), Raw("1e400"), Raw("-1e400"), Raw("1" * 400), Raw("9" * 5000), Raw("0" * 9)),
    *(Raw("1e-400"), Raw("1." + "0" * 300), Raw("-"), Raw("01"), Raw("0x10"), Raw("1_0")),
)
TEXTS: tuple[Any, ...] = (
    *(
        "",
        " ",
        "a",
        "None",
        "null",
        "true",
        "0",
        "-1",
        "1e400",
        "nan",
        "float32",
        "../x",
        "/",
        "a/b",
    ),
    *("\0", "\n", "\r\n", "\x1b[31m", "\ud800", "\udc00\ud800", "\ufeff", "\u202e", "e\u0301"),
    *("\U0001f642", "\U0010ffff", "\ufffe", "\u2581", "\u0130", "\u1e9e", "[bold]x[/]", "%s", "{}"),
    *("a" * 600, "\u00e9" * 600, "\U0001f642" * 300, "<0x00>", "<0xZZ>", "a.b.c.weight", "." * 80),
    *(Raw('"\\ud800"'), Raw('"\\u0000"'), Raw('"\\x"'), Raw('"'), Raw("'a'"), Raw('"a\tb"')),
)
SHAPES: tuple[Any, ...] = (
    *(None, True, False, [], {}, [[]], [None], [{}], {"": None}, {"a": {"a": {"a": {}}}}),
    *([0] * 30, [1, "a", None], list(range(MANY)), [[]] * MANY, {"a": 1, "b": [2]}),
    *(Raw("[" * NEST), Raw("[" * NEST + "]" * NEST), Raw('{"a":' * NEST), Raw("{" * NEST)),
    *(Raw('{"a":' * 500 + "1" + "}" * 500), Raw("[" * 900 + "]" * 900), Raw(""), Raw(",")),
    *({str(n): n for n in range(MANY)}, Raw("nul"), Raw("Infinity"), Raw("-NaN"), Raw("//x\n1")),
)


def mutated(random: Random, value: Any, *, most: int = 3) -> Any:
    """The value with one to `most` changes."""
    for _ in range(random.choice([1, 1, random.randint(1, most)])):
        places = list(_places(value))
        value = _changed(random, value, random.choice(places))
    return value


def text_of(random: Random, value: Any) -> bytes:
    """The value as JSON, now and then in an odd encoding or with odd spaces."""
    parts: list[str] = []
    _write(value, parts, ascii_only=random.random() < 0.5)
    text = "".join(parts)
    odd = random.random()
    if odd < 0.02:
        text = "\ufeff" + text
    elif odd < 0.04:
        text = text + random.choice([" " * 3000, "\0", "}", "{}", "\n\n", ","])
    elif odd < 0.06:
        text = " " * random.choice([1, 7, 5000]) + text
    encoding = (
        "utf-8" if odd < 0.96 else random.choice(["utf-16", "utf-32", "latin-1", "utf-16-be"])
    )
    return text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")


def _places(value: Any, path: Path = ()) -> list[Path]:
    found = [path]
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = (
            enumerate(value) if len(value) <= 40 else [(0, value[0]), (len(value) - 1, value[-1])]
        )
    for key, item in inner:
        found += _places(item, (*path, key))
    return found


def _changed(random: Random, value: Any, path: Path) -> Any:
    if not path:
        return _other(random, value)
    head, rest = path[0], path[1:]
    if isinstance(value, dict):
        if rest:
            return {**value, head: _changed(random, value[head], rest)}
        return _table(random, value, head)
    assert isinstance(value, list)
    inner = list(value)
    what = random.random()
    if rest or what < 0.6:
        inner[head] = _changed(random, inner[head], rest)
    elif what < 0.75:
        del inner[head]
    elif what < 0.9:
        inner.insert(head, inner[head])
    else:
        inner = inner * random.choice([0, 2, 50])
    return inner


def _table(random: Random, table: dict[str, Any], key: str) -> Any:
    what = random.random()
    if what < 0.15:
        return {other: item for other, item in table.items() if other != key}
    if what < 0.22:
        return {
            _name(random, other) if other == key else other: item for other, item in table.items()
        }
    if what < 0.28:
        return Twice(table, key, _other(random, table[key]))
    if what < 0.36:
        other = random.choice(list(table))
        return {**table, key: table[other], other: table[key]}
    return {**table, key: _other(random, table[key])}


def _name(random: Random, key: str) -> str:
    odd = [text for text in TEXTS if isinstance(text, str)]
    return random.choice([*odd, key.upper(), key + " ", key + "\0", key[:-1]])


def _other(random: Random, value: Any) -> Any:
    """Something else than the value, of its own kind more often than not."""
    what = random.random()
    if isinstance(value, bool) and what < 0.5:
        return not value
    if isinstance(value, int | float) and what < 0.3:
        near = value + random.choice([1, -1])
        return random.choice([near, -value, value * 2, value * 1024, str(value), float(value)])
    if isinstance(value, int | float) and what < 0.75:
        return random.choice(NUMBERS)
    if isinstance(value, str) and what < 0.7:
        spoilt = [value.upper(), value + "x", value[: len(value) // 2], value * 30, value + "\0"]
        return random.choice([*spoilt, random.choice(TEXTS), random.choice(TEXTS)])
    return random.choice(random.choice((NUMBERS, TEXTS, SHAPES)))


def _write(value: Any, parts: list[str], *, ascii_only: bool) -> None:
    if isinstance(value, Raw):
        parts.append(value.text)
    elif isinstance(value, Twice):
        _pairs([*value.table.items(), (value.key, value.value)], parts, ascii_only=ascii_only)
    elif isinstance(value, dict):
        _pairs(list(value.items()), parts, ascii_only=ascii_only)
    elif isinstance(value, list):
        for n, item in enumerate(value):
            parts.append(", " if n else "[")
            _write(item, parts, ascii_only=ascii_only)
        parts.append("]" if value else "[]")
    else:
        parts.append(json.dumps(value, ensure_ascii=ascii_only))


def _pairs(pairs: list[tuple[str, Any]], parts: list[str], *, ascii_only: bool) -> None:
    for n, (key, item) in enumerate(pairs):
        parts.append(", " if n else "{")
        parts.append(json.dumps(key, ensure_ascii=ascii_only) + ": ")
        _write(item, parts, ascii_only=ascii_only)
    parts.append("}" if pairs else "{}")
