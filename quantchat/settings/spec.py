"""One setting: its key, words and bounds, and the check of a value.

Owns what a value may be. Which settings there are is `schema`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from quantchat.errors import SettingsError

Value: TypeAlias = bool | int | float | str
Kind: TypeAlias = Literal["bool", "int", "float", "text", "multiline", "choice"]
ChoiceSource: TypeAlias = Literal["schemes", "models", "themes"]

TEXT_LIMIT = 65_536
"""Longest text value in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingSpec:
    """One setting: how it is called, explained, drawn and checked."""

    key: str
    title: str
    help: str
    section: str
    kind: Kind
    default: Value
    choices: tuple[str, ...] = ()
    """All the words allowed, for a choice known here."""
    choices_from: ChoiceSource | None = None
    """Who knows the words, for a choice that grows elsewhere."""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None

    def check(self, value: object) -> Value:
        """The value in the setting's own type; raises SettingsError saying what is allowed."""
        match self.kind:
            case "bool":
                if isinstance(value, bool):
                    return value
                raise self._refusal(value, "true or false")
            case "int":
                if isinstance(value, int) and not isinstance(value, bool):
                    return self._in_bounds(value)
                raise self._refusal(value, f"a whole number{self._bounds()}")
            case "float":
                if isinstance(value, int | float) and not isinstance(value, bool):
                    return self._in_bounds(_finite(value, self))
                raise self._refusal(value, f"a number{self._bounds()}")
            case "choice":
                return self._choice(value)
            case "text" | "multiline":
                return self._text(value)

    def parse(self, text: str) -> Value:
        """The value that a person typed; raises SettingsError."""
        word = text.strip()
        try:
            match self.kind:
                case "bool":
                    return _WORDS[word.lower()]
                case "int":
                    return self.check(int(word))
                case "float":
                    return self.check(float(word))
                case "choice":
                    return self.check(word)
                case "text" | "multiline":
                    return self.check(text)
        except (ValueError, KeyError):
            wanted = {"bool": "true or false", "int": f"a whole number{self._bounds()}"}
            raise self._refusal(text, wanted.get(self.kind, f"a number{self._bounds()}")) from None

    def _choice(self, value: object) -> str:
        if not isinstance(value, str):
            raise self._refusal(value, "a word")
        if self.choices and value not in self.choices:
            raise self._refusal(value, f"one of {', '.join(self.choices)}")
        if not value or len(value) > 4096 or not value.isprintable():
            raise self._refusal(value, f"a name out of {self.choices_from}")
        return value

    def _text(self, value: object) -> str:
        if not isinstance(value, str):
            raise self._refusal(value, "text")
        if len(value) > TEXT_LIMIT:
            raise self._refusal(value, f"at most {TEXT_LIMIT} characters")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise self._refusal(value, "whole characters")
        if self.kind == "text" and "\n" in value:
            raise self._refusal(value, "a single line")
        return value.replace("\r\n", "\n")

    def _in_bounds(self, value: float) -> float:
        low, high = self.minimum, self.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            raise self._refusal(value, f"a value{self._bounds()}")
        return value

    def _bounds(self) -> str:
        low, high = self.minimum, self.maximum
        if low is None:
            return "" if high is None else f" of at most {_plain(high)}"
        return (
            f" of at least {_plain(low)}"
            if high is None
            else f" from {_plain(low)} to {_plain(high)}"
        )

    def _refusal(self, value: object, wanted: str) -> SettingsError:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return SettingsError(f"{self.key}: {shown} is not allowed", hint=f"it takes {wanted}")


_WORDS = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def _plain(bound: float) -> str:
    """All digits of a whole number."""
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def _finite(value: float, spec: SettingSpec) -> float:
    number = float(value) if abs(value) < 1e300 else math.inf
    if not math.isfinite(number):
        raise SettingsError(
            f"{spec.key}: {value!r} is not allowed", hint="it takes a finite number"
        )
    return number
