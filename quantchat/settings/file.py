"""The settings file: TOML, only what differs from the defaults, replaced in one step.

Keys and values that this version does not know are kept as they are; a file that is not TOML
is moved aside before a new one is written, never overwritten.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

import tomli_w

from quantchat.errors import SettingsError
from quantchat.settings.model import Settings
from quantchat.settings.schema import SETTINGS, SPECS

FILE_LIMIT_BYTES = 4 * 2**20


def load_settings(path: Path) -> tuple[Settings, list[str]]:
    """Settings and warnings for people: what cannot be used falls back to its default."""
    try:
        table = _read(path)
    except SettingsError as error:
        return Settings(), [f"{error.message}; the defaults are used ({error.hint})"]
    settings, warnings = Settings(), []
    for key, value in table.items():
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
        known = _read(path)
    except SettingsError as error:
        known = {}
        aside = _move_aside(path)
        if aside is not None:
            warnings.append(f"{error.message}; it was kept as {aside.name}")
    table = {key: value for key, value in known.items() if key not in SPECS}
    for spec in SETTINGS:
        value = settings.value(spec.key)
        if value != spec.default:
            table[spec.key] = value
        elif spec.key in known and not _usable(spec.key, known[spec.key]):
            table[spec.key] = known[spec.key]
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace(path, tomli_w.dumps(table, multiline_strings=True).encode())
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be written: {error.strerror or error}",
            hint="the settings hold until the app is closed",
        ) from error
    return warnings


def _usable(key: str, value: object) -> bool:
    try:
        SPECS[key].check(value)
    except SettingsError:
        return False
    return True


def _read(path: Path) -> Mapping[str, object]:
    hint = "it is kept aside when settings are saved"
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(
            f"{path.name}: cannot be read: {error.strerror or error}", hint=hint
        ) from error
    if len(data) > FILE_LIMIT_BYTES:
        raise SettingsError(f"{path.name}: larger than {FILE_LIMIT_BYTES} bytes", hint=hint)
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path.name}: not a TOML file: {error}", hint=hint) from error


def _move_aside(path: Path) -> Path | None:
    """Rename to the first free `NAME.broken-N.toml`; None where there is nothing to keep."""
    for number in range(1, 10_000):
        aside = path.with_name(f"{path.stem}.broken-{number}{path.suffix}")
        if aside.exists():
            continue
        try:
            path.rename(aside)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SettingsError(
                f"{path}: cannot be moved aside: {error.strerror or error}",
                hint="rename it by hand; the settings hold until the app is closed",
            ) from error
        return aside
    raise SettingsError(f"{path}: too many broken copies beside it", hint="delete some of them")


def _replace(path: Path, data: bytes) -> None:
    target = path.resolve()
    number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
