"""Which package indexes the user has configured, read from pip's and uv's own settings.

Owns the reading of environment variables, pip.conf and uv.toml. Names no index of its own.
"""

from __future__ import annotations

import configparser
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

_CONFIG_BYTES = 1 << 20


def configured_indexes() -> list[str]:
    """Index addresses in the order in which to ask them, without repeats; may be empty."""
    found: list[str] = []
    environment = os.environ
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        found += environment.get(variable, "").split()
    for variable in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        found += environment.get(variable, "").split()
    for path in _uv_files():
        found += _from_uv(path)
    for path in _pip_files():
        found += _from_pip(path)
    # uv writes NAME=ADDRESS for named indexes.
    plain = [_without_name(text) for text in found]
    return list(dict.fromkeys(url for url in plain if _is_address(url)))


def _without_name(text: str) -> str:
    name, equals, url = text.partition("=")
    return url if equals and "/" not in name else text


def _is_address(url: str) -> bool:
    return url.startswith(("https://", "http://", "file://"))


def _read(path: Path) -> str | None:
    try:
        if path.stat().st_size > _CONFIG_BYTES:
            return None
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _system_homes() -> list[Path]:
    homes = [Path(part) for part in os.environ.get("XDG_CONFIG_DIRS", "").split(":") if part]
    return [*homes, Path("/etc/xdg"), Path("/etc")]


def _uv_files() -> list[Path]:
    named = os.environ.get("UV_CONFIG_FILE")
    if named:
        return [Path(named)]
    if sys.platform == "win32":
        return [Path(os.environ.get(key, "")) / "uv/uv.toml" for key in ("APPDATA", "PROGRAMDATA")]
    return [home / "uv/uv.toml" for home in (_config_home(), *_system_homes())]


def _from_uv(path: Path) -> list[str]:
    text = _read(path)
    if text is None:
        return []
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return []
    tables = [data]
    if isinstance(data.get("pip"), dict):
        tables.append(data["pip"])
    named = [item for item in _items(data.get("index")) if isinstance(item, dict)]
    named.sort(key=lambda item: item.get("default") is not True)
    found = [item.get("url") for item in named]
    for table in tables:
        found += [table.get("index-url"), *_items(table.get("extra-index-url"))]
    return [url for url in found if isinstance(url, str)]


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _pip_files() -> list[Path]:
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    files = [Path(named)] if named else []
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    files.append(Path(sys.prefix) / name)
    if sys.platform == "win32":
        files += [
            Path(os.environ.get(key, "")) / "pip/pip.ini" for key in ("APPDATA", "PROGRAMDATA")
        ]
        return files
    if sys.platform == "darwin":
        files.append(Path.home() / "Library/Application Support/pip/pip.conf")
    files += [_config_home() / "pip/pip.conf", Path.home() / ".pip/pip.conf"]
    files += [home / "pip/pip.conf" for home in _system_homes()]
    return [*files, Path("/etc/pip.conf")]


def _from_pip(path: Path) -> list[str]:
    text = _read(path)
    if text is None:
        return []
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error:
        return []
    found: list[str] = []
    for key in ("index-url", "extra-index-url"):
        for section in ("download", "install", "global"):
            found += parser.get(section, key, fallback="").split()
    return found
