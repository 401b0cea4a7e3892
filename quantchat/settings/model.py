"""The settings as a typed record; defaults come from the schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from quantchat.requests import Sampling
from quantchat.settings.schema import SPECS, spec_of
from quantchat.settings.spec import Value


def _text(key: str) -> str:
    value = SPECS[key].default
    assert isinstance(value, str), key
    return value


def _number(key: str) -> float:
    value = SPECS[key].default
    assert isinstance(value, float), key
    return value


def _whole(key: str) -> int:
    value = SPECS[key].default
    assert isinstance(value, int) and not isinstance(value, bool), key
    return value


def _flag(key: str) -> bool:
    value = SPECS[key].default
    assert isinstance(value, bool), key
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting under its key, checked. `Settings()` holds the defaults."""

    model: str = _text("model")
    scheme: str = _text("scheme")
    kv: str = _text("kv")
    device: str = _text("device")
    context_tokens: int = _whole("context_tokens")
    calibration_file: str = _text("calibration_file")
    tune: str = _text("tune")
    system_prompt: str = _text("system_prompt")
    temperature: float = _number("temperature")
    top_k: int = _whole("top_k")
    top_p: float = _number("top_p")
    min_p: float = _number("min_p")
    repetition_penalty: float = _number("repetition_penalty")
    seed: int = _whole("seed")
    max_tokens: int = _whole("max_tokens")
    theme: str = _text("theme")
    enter_sends: bool = _flag("enter_sends")
    show_meters: bool = _flag("show_meters")
    animations: bool = _flag("animations")
    compare_mode: str = _text("compare_mode")
    compare_left_model: str = _text("compare_left_model")
    compare_left_scheme: str = _text("compare_left_scheme")
    compare_left_kv: str = _text("compare_left_kv")
    compare_right_model: str = _text("compare_right_model")
    compare_right_scheme: str = _text("compare_right_scheme")
    compare_right_kv: str = _text("compare_right_kv")

    def __post_init__(self) -> None:
        for key, value in self.values().items():
            spec_of(key).check(value)

    def values(self) -> Mapping[str, Value]:
        """Key -> value, in the order of the schema."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def value(self, key: str) -> Value:
        """One value by its key; raises SettingsError for an unknown one."""
        return self.values()[spec_of(key).key]

    def with_value(self, key: str, value: object) -> Settings:
        """A copy with one value changed; raises SettingsError when key or value are off."""
        change: dict[str, Any] = {key: spec_of(key).check(value)}
        return replace(self, **change)

    def sampling(self) -> Sampling:
        """How tokens are picked, as the engine takes it."""
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            seed=None if self.seed < 0 else self.seed,
        )
