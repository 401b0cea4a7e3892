"""TOML files of the user: read within bounds, replaced in one step, moved aside when broken.

Owns the file; what its keys mean belongs to `file` and `presets`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import tomli_w

from quantchat.errors import SettingsError
from quantchat.whole_file import replace_file

FILE_LIMIT_BYTES = 4 * 2**20


def read_table(path: Path) -> Mapping[str, object]:
    """The table, empty where there is no file; raises SettingsError."""
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


def move_aside(path: Path) -> Path | None:
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


def replace_table(path: Path, table: Mapping[str, object]) -> None:
    """Write the table in place of the file, all or nothing; raises SettingsError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(path, tomli_w.dumps(table, multiline_strings=True).encode())
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be written: {error.strerror or error}",
            hint="the settings hold until the app is closed",
        ) from error
