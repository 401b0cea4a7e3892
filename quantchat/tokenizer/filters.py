"""Jinja's filters for chat templates, what they are given and what they make within the budget.

Owns the table of those that are known; a template that asks for another one is refused.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import SecurityError

if TYPE_CHECKING:
    from quantchat.tokenizer.sandbox import Sandbox

MOST_INDENT = 8
MOST_DIGITS = 15
FILTERS = frozenset(
    {
        *("abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first"),
        *("float", "format", "groupby", "indent", "int", "items", "join", "last", "length", "list"),
        *(
            "lower",
            "map",
            "max",
            "min",
            "reject",
            "rejectattr",
            "replace",
            "reverse",
            "round",
            "safe",
        ),
        *("select", "selectattr", "sort", "string", "sum", "title", "tojson", "trim", "truncate"),
        *("unique", "upper", "urlencode", "wordcount"),
    }
)
"""Those that chat templates have a use for, and whose cost is known beforehand."""


def at_most(value: Any, most: int) -> bool:
    """Whether it is a whole number of no more than that size."""
    return isinstance(value, int) and abs(value) <= most


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if indent is not None and not at_most(indent, MOST_INDENT):
        raise SecurityError(f"tojson with an indent of more than {MOST_INDENT}")
    if separators is not None and sum(map(len, separators)) > MOST_INDENT:
        raise SecurityError("tojson with long separators")
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def filters(env: Sandbox) -> dict[str, Callable[..., Any]]:
    """The known filters, bound to an environment's budget."""

    def replaced(*args: Any, **kwargs: Any) -> None:
        texts = [str(arg) for arg in (*args, *kwargs.values()) if not isinstance(arg, int)][-3:]
        if len(texts) == 3:
            env.budget.spend(texts[0].count(texts[1]) * len(texts[2]))

    def formatted(text: Any, *args: Any, **kwargs: Any) -> None:
        env.check_format(str(text), (*args, *kwargs.values()))

    def indented(text: Any, width: Any = 4, *args: Any, **kwargs: Any) -> None:
        spaces = width if isinstance(width, int) else len(str(width))
        env.budget.spend(max(spaces, 0) * (str(text).count("\n") + 1))

    def rounded(value: Any, precision: Any = 0, *args: Any, **kwargs: Any) -> None:
        if not at_most(precision, MOST_DIGITS):
            raise SecurityError("a number of too many digits")

    def summed(values: Any, *args: Any, **kwargs: Any) -> None:
        start = kwargs.get("start", args[-1] if len(args) == 2 else 0)
        if not isinstance(start, int | float):
            raise SecurityError("a sum of what is no number")

    checks: dict[str, Callable[..., None]] = {
        "format": formatted,
        "indent": indented,
        "round": rounded,
        "sum": summed,
    }

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        check = checks.get(name)
        skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            env.budget.step()
            if check is not None:
                check(*args[skipped:], **kwargs)
            elif name == "replace":
                replaced(*args[skipped:], **kwargs)
            elif name == "join":
                args = _joining(env, args, skipped, kwargs)
            return env.budget.watch(function(*args, **kwargs))

        return run

    known = {**env.filters, "tojson": _to_json}
    return {name: watched(name, known[name]) for name in FILTERS}


def _joining(
    env: Sandbox, args: tuple[Any, ...], at: int, kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    """The arguments of `join`, with a list in place of what is gone through once."""
    items = list(env.counted(args[at]))
    between = str(kwargs.get("d", args[at + 1] if len(args) > at + 1 else ""))
    env.budget.spend(len(between) * len(items))
    env.budget.watch(items)
    return (*args[:at], items, *args[at + 1 :])
