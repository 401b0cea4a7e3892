"""The settings file: TOML, only what differs from the defaults, replaced in one step.

Keys and values that this version does not know are kept as they are; a file that is not TOML
is moved aside before a new one is written, never overwritten.
"""

from __future__ import annotations

from pathlib import Path

from quantchat.errors import SettingsError
from quantchat.settings.keys import TABLE as KEYS_TABLE
from quantchat.settings.model import Settings
from quantchat.settings.schema import SETTINGS, SPECS
from quantchat.settings.toml_file import move_aside, read_table, replace_table


def load_settings(path: Path) -> tuple[Settings, list[str]]:
    """Settings and warnings for people: what cannot be used falls back to its default."""
    try:
        table = read_table(path)
    except SettingsError as error:
        return Settings(), [f"{error.message}; the defaults are used ({error.hint})"]
    settings, warnings = Settings(), []
    for key, value in table.items():
        if key == KEYS_TABLE:
            continue
        if key not in SPECS:
            warnings.append(f"{path.name}: unknown setting {key!r} (kept, not used)")
            continue
        try:
            settings = settings.with_value(key, value)
        except SettingsError as error:
            default = SPECS[key].default
            warnings.append(f"{path.name}: {error.message}; {error.hint}; {default!r} is used")
    return settings, warnings


def save_settings(settings: Settings, path: Path) -> list[str]:
    """Replace the file in one step; returns warnings for people; raises SettingsError.

    Keeps unknown keys, and values that this version cannot read as long as the setting
    stands at its default.
    """
    warnings: list[str] = []
    try:
        known = read_table(path)
    except SettingsError as error:
        known = {}
        aside = move_aside(path)
        if aside is not None:
            warnings.append(f"{error.message}; it was kept as {aside.name}")
    table = {key: value for key, value in known.items() if key not in SPECS}
    for spec in SETTINGS:
        value = settings.value(spec.key)
        if value != spec.default:
            table[spec.key] = value
        elif spec.key in known and not _usable(spec.key, known[spec.key]):
            table[spec.key] = known[spec.key]
    replace_table(path, table)
    return warnings


def _usable(key: str, value: object) -> bool:
    try:
        SPECS[key].check(value)
    except SettingsError:
        return False
    return True
