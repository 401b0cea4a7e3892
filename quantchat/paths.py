"""Where things live on disk; `QUANTCHAT_HOME` moves all of it under one folder.

Owns folder names only; creates a folder when it is asked for, never at import.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

APP = "quantchat"


def expanded(path: Path | str) -> Path:
    """With ~ and ~user as home folders; one of nobody stays as it is written."""
    return Path(os.path.expanduser(path))


def _base(kind: str, default: str) -> Path:
    home = os.environ.get("QUANTCHAT_HOME")
    path = expanded(home) / kind if home else Path(default)
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def data_dir() -> Path:
    """Models and conversations."""
    return _base("data", platformdirs.user_data_dir(APP, appauthor=False))


def config_dir() -> Path:
    """Settings and the user's own themes."""
    return _base("config", platformdirs.user_config_dir(APP, appauthor=False))


def cache_dir() -> Path:
    """What can be made again: packed weights, tuned tiles."""
    return _base("cache", platformdirs.user_cache_dir(APP, appauthor=False))


def log_dir() -> Path:
    """Log files."""
    return _base("log", platformdirs.user_log_dir(APP, appauthor=False))


def _sub(parent: Path, name: str) -> Path:
    path = parent / name
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def models_dir() -> Path:
    """Downloaded models, one folder each."""
    return _sub(data_dir(), "models")


def packed_dir() -> Path:
    """Weights quantized here, ready to load."""
    return _sub(cache_dir(), "packed")


def references_dir() -> Path:
    """What evaluations are measured against: texts written by models, states of references."""
    return _sub(cache_dir(), "references")


def calibration_dir() -> Path:
    """Text that models wrote for their own calibration, as token ids."""
    return _sub(cache_dir(), "calibration")


def kernels_dir() -> Path:
    """Kernels compiled here."""
    return _sub(cache_dir(), "kernels")


def tiles_dir() -> Path:
    """Launch shapes measured on this machine's cards."""
    return _sub(cache_dir(), "tiles")


def user_themes_dir() -> Path:
    """Theme files of the user."""
    return _sub(config_dir(), "themes")


def database_file() -> Path:
    """The conversations."""
    return data_dir() / "conversations.db"


def settings_file() -> Path:
    """The settings."""
    return config_dir() / "settings.toml"


def presets_file() -> Path:
    """Named sampling settings and system prompts."""
    return config_dir() / "presets.toml"


def log_file() -> Path:
    """The log of the app."""
    return log_dir() / "quantchat.log"
