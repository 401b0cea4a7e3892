"""Named sampling settings and system prompts: three built in, the rest in presets.toml.

Owns names, bounds and the file's tables `sampling` and `prompts`. Whatever else stands in the
file is kept. Does not own what one value means (schema) or which conversation uses it (store).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from quantchat.errors import SettingsError
from quantchat.settings.model import Settings
from quantchat.settings.schema import SPECS
from quantchat.settings.toml_file import move_aside, read_table, replace_table

SAMPLING_KEYS = (
    *("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "max_tokens"),
)
"""Settings that a conversation may have of its own."""
NAME_LIMIT = 40
ENTRIES_MAX = 200
"""Of each kind in the file."""

Sampling = Mapping[str, float | int]

BUILT_IN: Mapping[str, Sampling] = MappingProxyType(
    {
        "precise": {"temperature": 0.2, "top_k": 0, "top_p": 0.9, "min_p": 0.0},
        "balanced": {"temperature": 0.7, "top_k": 0, "top_p": 0.95, "min_p": 0.0},
        "creative": {"temperature": 1.1, "top_k": 0, "top_p": 1.0, "min_p": 0.05},
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presets:
    """All that can be chosen by name."""

    sampling: Mapping[str, Sampling] = field(default_factory=lambda: dict(BUILT_IN))
    """The built-in ones first."""
    prompts: Mapping[str, str] = field(default_factory=dict)


def load_presets(path: Path) -> tuple[Presets, list[str]]:
    """Presets and warnings for people: entries that cannot be used are left out."""
    try:
        table = read_table(path)
    except SettingsError as error:
        return Presets(), [f"{error.message}; only the built-in presets are there"]
    warnings: list[str] = []
    sampling, prompts = dict(BUILT_IN), {}
    for name, described in _entries(table, "sampling", path, warnings):
        try:
            if name in BUILT_IN:
                raise SettingsError("the name of a built-in preset")
            sampling[checked_name(name)] = checked_sampling(described)
        except SettingsError as error:
            warnings.append(f"{path.name}: preset {name[:NAME_LIMIT]!r} is left out: {error}")
    for name, text in _entries(table, "prompts", path, warnings):
        try:
            prompts[checked_name(name)] = str(SPECS["system_prompt"].check(text))
        except SettingsError as error:
            warnings.append(f"{path.name}: prompt {name[:NAME_LIMIT]!r} is left out: {error}")
    return Presets(sampling=sampling, prompts=prompts), warnings


def keep_sampling(path: Path, name: str, values: Sampling) -> None:
    """Save or replace a preset; raises SettingsError."""
    name = checked_name(name)
    if name in BUILT_IN:
        raise SettingsError(f"{name!r} is a built-in preset", hint="choose another name")
    checked = checked_sampling(dict(values))
    _change(path, "sampling", lambda entries: entries.update({name: checked}))


def keep_prompt(path: Path, name: str, text: str) -> None:
    """Save or replace a system prompt; raises SettingsError."""
    name, text = checked_name(name), str(SPECS["system_prompt"].check(text))
    _change(path, "prompts", lambda entries: entries.update({name: text}))


def drop(path: Path, kind: str, name: str) -> None:
    """Forget a preset ("sampling") or a system prompt ("prompts"); raises SettingsError."""
    assert kind in ("sampling", "prompts")
    _change(path, kind, lambda entries: entries.pop(name, None))


def checked_name(name: str) -> str:
    """The name without outer blanks; raises SettingsError for one that cannot be shown."""
    name = " ".join(name.split())
    if not 0 < len(name) <= NAME_LIMIT or not name.isprintable():
        raise SettingsError(
            f"{name[:NAME_LIMIT]!r} is no name", hint=f"it takes 1 to {NAME_LIMIT} characters"
        )
    return name


def checked_sampling(described: object) -> Sampling:
    """Sampling settings by key, each within its bounds; raises SettingsError."""
    if not isinstance(described, dict):
        raise SettingsError("not a table of settings")
    checked: dict[str, float | int] = {}
    for key, value in described.items():
        if key not in SAMPLING_KEYS:
            raise SettingsError(f"{str(key)[:60]!r} is no sampling setting")
        number = SPECS[key].check(value)
        assert isinstance(number, int | float)
        checked[key] = number
    return checked


def with_own(settings: Settings, own: Sampling | None) -> Settings:
    """The settings with a conversation's own sampling over them; unusable values are left out."""
    for key, value in (own or {}).items():
        if key in SAMPLING_KEYS:
            try:
                settings = settings.with_value(key, value)
            except SettingsError:
                continue
    return settings


def preset_of(presets: Presets, own: Sampling) -> str:
    """Name of the preset with exactly these values, "" where there is none."""
    return next((name for name, values in presets.sampling.items() if values == own), "")


def _entries(
    table: Mapping[str, object], kind: str, path: Path, warnings: list[str]
) -> list[tuple[str, object]]:
    found = table.get(kind, {})
    if not isinstance(found, dict):
        warnings.append(f"{path.name}: {kind} is not a table; it is left out")
        return []
    if len(found) > ENTRIES_MAX:
        warnings.append(f"{path.name}: only the first {ENTRIES_MAX} of {kind} are used")
    return list(found.items())[:ENTRIES_MAX]


def _change(path: Path, kind: str, change: Callable[[dict[str, Any]], object]) -> None:
    try:
        table = dict(read_table(path))
    except SettingsError:
        move_aside(path)
        table = {}
    found = table.get(kind)
    entries = dict(found) if isinstance(found, dict) else {}
    change(entries)
    if len(entries) > ENTRIES_MAX:
        raise SettingsError(f"there are {ENTRIES_MAX} {kind} already", hint="delete some first")
    replace_table(path, {**table, kind: entries})
