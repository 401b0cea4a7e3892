"""The Jinja environment for chat templates: what transformers offers them, nothing more.

Immutable sandbox without a loader: no files, no Python internals. A template comes from a file that
anybody may have written: every loop, call, filter and joint counts against a budget of time and text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from quantchat.tokenizer.budget import Budget
from quantchat.tokenizer.counted import Counted, Steps
from quantchat.tokenizer.filters import at_most, filters

MOST_BITS = 4096
MOST_WIDTH = 1000
MOST_DATE_CHARS = 100
MOST_RANGE = 10_000

NO_METHODS = frozenset({"encode", "format_map", "maketrans", "translate"})
WIDE_METHODS = frozenset({"center", "expandtabs", "ljust", "rjust", "zfill"})

_WIDE = re.compile(r"\d{4}|\*|:[^}]*\{")
"""Widths in a format that are large, or come from its arguments."""
_WIDE_DATE = re.compile(r"%[^a-zA-Z%]*\d")


class _Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; here it only passes them on."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment for one template; `budget` is begun anew before each conversation."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.budget = Budget()

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        counted: nodes.Template = Counted().visit(tree)
        return counted

    def concat(self, parts: Iterable[str]) -> str:
        """What blocks, macros and captures write, in one."""
        texts = list(parts)
        self.budget.spend(sum(map(len, texts)))
        return "".join(texts)

    def counted(self, values: Iterable[Any]) -> Iterable[Any]:
        """The values, each one a step."""
        if isinstance(values, list | tuple | dict | str | range):
            return Steps(values, self.budget.step)
        return map(self._stepped, values)

    def _stepped(self, value: Any) -> Any:
        self.budget.step()
        return value

    def joined(self, *parts: Any) -> str:
        """`~`: the parts as texts, joined."""
        texts = [str(self.budget.watch(part)) for part in parts]
        self.budget.spend(sum(map(len, texts)))
        return "".join(texts)

    def watched(self, value: Any) -> Any:
        """A list, a table or a piece of something, weighed."""
        return self.budget.watch(value)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """No Python internals, and no method that makes much out of little in ways of its own."""
        if isinstance(obj, str) and attr in NO_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call(self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Every call of a template."""
        owner = getattr(__obj, "__self__", None)
        if owner is self:
            return __obj(*args)
        self.budget.step()
        if isinstance(owner, str):
            args = self._checked(owner, str(getattr(__obj, "__name__", "")), args)
        return self.budget.watch(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and not _small(left, right):
            raise SecurityError("a power that is too large")
        if operator == "%" and isinstance(left, str):
            self.check_format(left, (right,))
        if operator == "*":
            self._check_product(left, right)
        return self.budget.watch(super().call_binop(context, operator, left, right))

    def _check_product(self, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int):
            if left.bit_length() + right.bit_length() > MOST_BITS:
                raise SecurityError("a number that is too large")
            return
        for many, times in ((left, right), (right, left)):
            if isinstance(many, str | list | tuple) and isinstance(times, int):
                self.budget.spend(len(many) * max(times, 0))

    def check_format(self, text: str, values: Iterable[Any]) -> None:
        """Raises SecurityError where a format makes too much of its values."""
        if _WIDE.search(text):
            raise SecurityError("a format that is too wide")
        marks = text.count("%") + text.count("{")
        self.budget.spend(marks * max((len(str(self.budget.watch(v))) for v in values), default=0))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`format` of a text, its widths bounded."""
        inner = super().wrap_str_format(value)
        if inner is None:
            return None

        def run(*args: Any, **kwargs: Any) -> str:
            self.check_format(value.__self__, (*args, *kwargs.values()))
            return inner(*args, **kwargs)

        return run

    def _checked(self, owner: str, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments of a text's method, known to make no more than there is room for."""
        if name in WIDE_METHODS and args and not at_most(args[0], MOST_WIDTH):
            raise SecurityError("a text that is too wide")
        if name == "replace" and len(args) > 1 and all(isinstance(a, str) for a in args[:2]):
            self.budget.spend(owner.count(args[0]) * len(args[1]))
        elif name == "join" and args:
            items = list(self.counted(args[0]))
            self.budget.spend(
                len(owner) * len(items) + sum(len(i) for i in items if isinstance(i, str))
            )
            return (items,)
        return args


def _small(base: Any, exponent: Any) -> bool:
    numbers = isinstance(base, int | float) and isinstance(exponent, int | float)
    return numbers and abs(base) <= 1 << 32 and abs(exponent) <= 64


def _refuse(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _now(fmt: str) -> str:
    if len(fmt) > MOST_DATE_CHARS or _WIDE_DATE.search(fmt):
        raise SecurityError("a date that is too long")
    return datetime.now().strftime(fmt)


def _range(*args: int) -> range:
    found = range(*args)
    if len(found) > MOST_RANGE:
        raise SecurityError(f"a range of more than {MOST_RANGE}")
    return found


def environment() -> Sandbox:
    """A fresh environment for one template."""
    env = Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, "jinja2.ext.loopcontrols"],
    )
    env.filters = filters(env)
    env.globals["raise_exception"] = _refuse
    env.globals["strftime_now"] = _now
    env.globals["range"] = _range
    del env.globals["lipsum"]
    return env
